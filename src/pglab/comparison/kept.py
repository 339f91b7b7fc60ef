"""Reference results in ``data/comparison``, each with the engines and the machine it is from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from pglab.comparison.result import Comparison, EngineNote
from pglab.comparison.seen import Seen
from pglab.errors import ResultError
from pglab.whole_file import write_whole

__all__ = ["FOLDER", "keep", "load", "machine_words", "references", "with_kept"]

FOLDER: Final = Path(__file__).parents[3] / "data" / "comparison"
"""In a checkout; a package that was installed without one has no references."""

_FORMAT: Final = 1


def keep(comparison: Comparison, path: Path) -> None:
    """Write what was seen here to a file, whole or not at all; kept results are left out."""
    content = {
        "format": _FORMAT,
        "day": comparison.day,
        "machine": comparison.machine,
        "engines": {name: asdict(note) for name, note in comparison.notes.items()},
        "missing": dict(comparison.missing),
        "seen": [asdict(each) for each in comparison.seen],
    }
    write_whole(path, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())


def load(path: Path) -> Comparison:
    """Read a file that ``keep`` wrote.

    Raises:
        ResultError: it is no such file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ResultError(
                f"{path} has format {content['format']}, and this pglab reads {_FORMAT}; "
                "make it anew: python -m pglab.comparison --keep"
            )
        return Comparison(
            tuple(Seen(**each) for each in content["seen"]),
            {name: EngineNote(**note) for name, note in content["engines"].items()},
            content["missing"],
            content["machine"],
            content["day"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ResultError):
            raise
        raise ResultError(
            f"{path} is no kept comparison ({type(error).__name__}: {error}); "
            "make it anew: python -m pglab.comparison --keep"
        ) from error


def references(folder: Path | None = None) -> Iterator[Comparison]:
    """Yield the kept comparisons, the oldest first, by the names of their files."""
    for path in sorted((folder or FOLDER).glob("*.json")):
        yield load(path)


def with_kept(comparison: Comparison, folder: Path | None = None) -> Comparison:
    """Return a comparison with kept results of the engines that are missing in it.

    Of several kept results of an engine the last counts, by the names of their files.
    """
    found: dict[str, Comparison] = {}
    for reference in references(folder):
        found |= {name: reference for name in comparison.missing if name in reference.notes}
    return replace(comparison, kept=found)


def machine_words() -> str:
    """Return this machine in a few words: processor, cores, system."""
    from pglab.bench.machine import describe_machine

    found = describe_machine()
    cores = found["cores"]
    return f"{found['cpu']}, {cores} core{'s' if cores != 1 else ''}, {found['system']}"
