"""The options of ``%%explain``'s line."""

from __future__ import annotations

import argparse
import keyword
import re
from dataclasses import dataclass
from typing import NoReturn

from pglab.notebook.failures import SqlUsageError
from pglab.notebook.session import MAIN

__all__ = ["PREVIOUS", "PlanOptions", "help_text", "parse"]

PREVIOUS = ""
"""What ``--compare`` without a name compares with: the plan before, or the cell's first."""


@dataclass(frozen=True)
class PlanOptions:
    """What the magic line asked for.

    Attributes:
        compare: None, a Python variable's name, or PREVIOUS.
        timeout_ms: statement_timeout for this run only; None leaves the session's.
        sql: what followed the options.
    """

    analyze: bool
    generic: bool
    text: bool
    compare: str | None
    to: str | None
    timeout_ms: int | None
    session: str
    help: bool
    sql: str


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SqlUsageError(f"%%explain: {message}. %explain --help lists the options")


_EXAMPLES = """\
  %%explain                        run the statement below and draw how it was done
  %%explain --to before            … and keep the plan as the Python object before
  %%explain --compare              … beside the plan before; or two statements, side by side
  %%explain --compare=before       … beside the plan that was kept as before
  %%explain --no-analyze           only what the planner expects: nothing is run
  %%explain --generic              … for any value of $1, $2 …

The statement runs to its end, and what it wrote is rolled back; in an open transaction, back to
where that was. Sequences keep the numbers that were drawn. Nothing in it is interpreted."""


def _identifier(text: str) -> str:
    if text == PREVIOUS:  # argparse checks the value that it fills in, too
        return text
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name that a Python variable can have")
    return text


def _milliseconds(text: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.001 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, from 0.001 on")
    return round(seconds * 1_000)


def _parser() -> _Parser:
    parser = _Parser(
        prog="%%explain",
        description="Show how PostgreSQL does a statement: its plan, as it ran.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--compare",
        type=_identifier,
        nargs="?",
        const=PREVIOUS,
        metavar="=NAME",
        help="set two plans side by side",
    )
    add("--to", type=_identifier, metavar="NAME", help="keep the plan (pglab.plans.Plan)")
    add("--no-analyze", dest="analyze", action="store_false", help="plan, and do not run")
    add("--generic", action="store_true", help="the plan for any value of $1 … (not run)")
    add("--text", action="store_true", help="PostgreSQL's own text instead")
    add(
        "--timeout",
        type=_milliseconds,
        dest="timeout_ms",
        metavar="SECONDS",
        help="give up after this long (statement_timeout)",
    )
    add(
        "--as",
        dest="session",
        type=_identifier,
        default=MAIN,
        metavar="NAME",
        help="run in the session NAME of %%%%sql",
    )
    add("-h", "--help", action="store_true", help="show this")
    return parser


_OPTION = re.compile(r"(--?[a-z-]+)(?:=(\S*))?(?=\s|\Z)")
_WITH_VALUE = {"--to", "--timeout", "--as"}


def parse(line: str) -> PlanOptions:
    """Read the leading options of a magic line; the rest is SQL, which stays as it is.

    Raises:
        SqlUsageError: an option is unknown, cannot be used, or does not go with another.
    """
    arguments: list[str] = []
    position = len(line) - len(line.lstrip())
    while match := _OPTION.match(line, position):
        position = match.end()
        if match[2] is None and match[1] in _WITH_VALUE:
            value = re.compile(r"\s*(\S*)").match(line, position)
            assert value is not None  # noqa: S101 (it matches an empty text)
            position = value.end()
            arguments += [f"{match[1]}={value[1]}"] if value[1] else [match[1]]
        else:
            arguments.append(match[0])
        position += len(line[position:]) - len(line[position:].lstrip())
    parser = _parser()
    given = parser.parse_args(arguments)
    if PREVIOUS in {given.to, given.session}:
        parser.error("--to and --as take a name")
    if given.text and (given.to or given.compare is not None):
        parser.error("--text shows PostgreSQL's text, of which no plan can be kept or compared")
    return PlanOptions(
        given.analyze and not given.generic,
        given.generic,
        given.text,
        given.compare,
        given.to,
        given.timeout_ms,
        given.session,
        given.help,
        line[position:].rstrip(),
    )


def help_text() -> str:
    """Return what ``--help`` shows."""
    return _parser().format_help()
