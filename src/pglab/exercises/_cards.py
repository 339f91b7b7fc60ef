"""Prompts, hints and solutions, shown as Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from pglab.exercises._problem import Problem

__all__ = ["Card", "hint_card", "prompt_card", "solution_card"]


@dataclass(frozen=True)
class Card:
    """A piece of Markdown, which is readable as text, too."""

    markdown: str

    def _repr_markdown_(self) -> str:
        return self.markdown

    def __repr__(self) -> str:
        return self.markdown


def prompt_card(problem: Problem) -> Card:
    """Return the task, and how to answer it."""
    return Card(
        f"**Exercise {problem.id}: {problem.title}**\n\n{problem.prompt}\n\n"
        f"Answer in a cell that begins with `%%exercise {problem.id}`. "
        f'A hint: `hint("{problem.id}")`'
    )


def hint_card(problem: Problem, number: int) -> Card:
    """Return a hint, counted from 1."""
    total = len(problem.hints)
    more = (
        f'`hint("{problem.id}")` shows the next.'
        if number < total
        else f'That was the last. A worked solution: `solution("{problem.id}")`'
    )
    text = problem.hints[number - 1]
    return Card(f"**{problem.id}, hint {number} of {total}**\n\n{text}\n\n{more}")


def solution_card(problem: Problem) -> Card:
    """Return every solution with its reasoning."""
    many = len(problem.solutions) > 1
    parts = [f"**{problem.id}, {'solutions' if many else 'a solution'}**"]
    for number, solution in enumerate(problem.solutions, 1):
        parts += [
            f"{number}." if many else "",
            f"```{'python' if problem.is_python else 'sql'}\n{solution.text.strip()}\n```",
            solution.why,
        ]
    return Card("\n\n".join(part for part in parts if part))
