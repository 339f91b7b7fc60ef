"""A comparison as a whole: what was seen where, and the table that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pglab.comparison.cells import BESIDE, CELLS, Cell
from pglab.comparison.contract import Setup
from pglab.comparison.judging import Evidence, Ruling, Verdict
from pglab.comparison.mariadb import MariadbEngine
from pglab.comparison.mongodb import MongodbEngine
from pglab.comparison.postgres import PostgresEngine
from pglab.comparison.seen import Seen
from pglab.comparison.sqlite import SqliteEngine

__all__ = ["SETUPS", "Comparison", "EngineNote", "Judged", "Source"]

SETUPS: Final[Mapping[str, Mapping[str, Setup]]] = {
    engine.name: engine.setups
    for engine in (PostgresEngine, MariadbEngine, SqliteEngine, MongodbEngine)
}


@dataclass(frozen=True, slots=True)
class EngineNote:
    """What ran as one of the columns.

    Attributes:
        product: such as ``MariaDB``.
        version: of it.
        how: where it came from.
    """

    product: str
    version: str
    how: str

    def __str__(self) -> str:
        return f"{self.product} {self.version}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where an engine's results come from.

    Attributes:
        note: the engine.
        kept: they were kept on another machine or day, which ``machine`` and ``day`` name.
    """

    note: EngineNote
    kept: bool
    machine: str
    day: str

    def __str__(self) -> str:
        if not self.kept:
            return f"{self.note}, run now ({self.note.how})"
        return f"{self.note}, kept from {self.day}, {self.machine}; not run here"


@dataclass(frozen=True, slots=True)
class Judged:
    """One cell with all that it rests on.

    Attributes:
        source: of what was seen; None where nothing was.
    """

    cell: Cell
    ruling: Ruling
    seen: tuple[Seen, ...]
    source: Source | None

    @property
    def verdict(self) -> Verdict:
        """Return the verdict alone."""
        return self.ruling.verdict

    def rows(self) -> list[dict[str, Any]]:
        """Return what was seen, a row a check and set-up, for ``table``."""
        return [_row(each) for each in self.seen]


@dataclass(frozen=True)
class Comparison:
    """What was seen, on a machine, on a day.

    Attributes:
        seen: by every check.
        notes: of the engines that ran, by name.
        missing: why an engine did not run, by name.
        machine: in words.
        day: in UTC, as ``2026-11-24``.
        kept: an earlier comparison for each engine that is missing here.
    """

    seen: tuple[Seen, ...]
    notes: Mapping[str, EngineNote]
    missing: Mapping[str, str]
    machine: str
    day: str
    kept: Mapping[str, Comparison] = field(default_factory=dict)

    def source(self, engine: str) -> Source | None:
        """Return where an engine's results come from, None where there are none."""
        if engine in self.notes:
            return Source(self.notes[engine], False, self.machine, self.day)
        if engine in self.kept:
            kept = self.kept[engine]
            return Source(kept.notes[engine], True, kept.machine, kept.day)
        return None

    def evidence(self, engine: str) -> Evidence:
        """Return what was seen, here or elsewhere, for a claim about an engine."""
        seen = list(self.seen)
        for name, kept in self.kept.items():
            seen += [each for each in kept.seen if each.engine == name]
        return Evidence(engine, seen, SETUPS[engine])

    def judge(self, cell: Cell) -> Judged:
        """Return a claim's verdict with what it rests on."""
        evidence = self.evidence(cell.engine)
        source = self.source(cell.engine)
        ruling = (
            Ruling(Verdict.NOT_RUN, self.missing.get(cell.engine, "it was not asked for"))
            if source is None
            else cell.judge(evidence, cell.checks)
        )
        return Judged(cell, ruling, tuple(evidence.all_of(cell.checks)), source)

    def table(self) -> list[Judged]:
        """Return the seed's table, judged, row by row."""
        return [self.judge(cell) for cell in CELLS]

    def beside(self) -> list[Judged]:
        """Return what the seed says beside it, judged."""
        return [self.judge(cell) for cell in BESIDE]

    def find(self, row: str, engine: str) -> Judged:
        """Return one cell of the table: ``find("ACID", "sqlite")``.

        Raises:
            KeyError: there is no such cell.
        """
        for cell in CELLS:
            if (cell.row, cell.engine) == (row, engine):
                return self.judge(cell)
        raise KeyError(f"the seed's table has no cell {row!r} for {engine!r}")

    def rows(self, check: str) -> list[dict[str, Any]]:
        """Return what a check saw of every engine, a row an engine and set-up, for ``table``."""
        found = []
        for engine in SETUPS:
            source = self.source(engine)
            if source is not None:
                name = f"{source.note}{', kept' if source.kept else ''}"
                found += [
                    {"engine": name, **_row(each)} for each in self.evidence(engine).all_of([check])
                ]
        for row in found:
            del row["check"]
        return found

    def _repr_html_(self) -> str:
        from pglab.comparison.view import as_html

        return as_html(self)

    def __repr__(self) -> str:
        from pglab.comparison.view import as_text

        return as_text(self)


def _row(seen: Seen) -> dict[str, Any]:
    return {
        "check": seen.check.replace("_", " "),
        "set-up": seen.setup,
        "passes": seen.passed,
        "what was seen": seen.saw,
    }
