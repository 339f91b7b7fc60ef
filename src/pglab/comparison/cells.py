"""The seed document's claims, cell by cell, and how each is read and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pglab.comparison.judging import Evidence, Judge, Ruling, Verdict, denied, promised
from pglab.comparison.speed import ALIKE

__all__ = ["BESIDE", "CELLS", "COLUMNS", "ROWS", "Cell"]

COLUMNS: Final = {"postgres": "PostgreSQL", "mysql": "MySQL", "sqlite": "SQLite"}
"""Of the seed's table."""

ROWS: Final = {
    "Tipo": "type", "Complejidad": "complexity", "Performance": "performance",
    "Escalabilidad": "scalability", "ACID": "ACID", "JSON Support": "JSON support",
    "Mejor para": "best for",
}  # fmt: skip
"""Of the seed's table, with what they mean."""

_SPEED: Final = ("ingest", "load", "inbox")
_ACID: Final = (
    "all_or_nothing", "wrong_values", "broken_rules", "no_anomaly", "survives_kill"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cell:
    """One claim.

    Attributes:
        row: of the seed's table, or ``""`` for a sentence beside it.
        engine: that it is about.
        claim: the seed's words.
        english: what they mean.
        reading: what must be seen for the claim to hold.
        checks: that show it.
        judge: makes the ruling.
    """

    row: str
    engine: str
    claim: str
    english: str
    reading: str
    checks: tuple[str, ...]
    judge: Judge


def _complexity(evidence: Evidence, checks: Sequence[str]) -> Ruling:
    del checks
    counts = {engine: evidence.fact(engine, "right_answers", "settings") for engine in COLUMNS}
    if None in counts.values():
        return Ruling(Verdict.NOT_RUN, "it needs all three engines")
    names = {engine: evidence.fact(engine, "right_answers", "product") for engine in COLUMNS}
    said = ", ".join(f"{names[engine]} {count:,}" for engine, count in counts.items())
    order = ("sqlite", "mysql", "postgres")  # from low to medium-high
    place = order.index(evidence.engine)
    right = all(
        (counts[order[n]] < counts[evidence.engine]) == (n < place) for n in range(3) if n != place
    )
    return Ruling(Verdict.HOLDS if right else Verdict.NOT, f"settings: {said}")


def _quick(evidence: Evidence, checks: Sequence[str]) -> Ruling:
    del checks
    ratios = evidence.fact(evidence.engine, "speed", "ratios")
    if ratios is None:
        return Ruling(Verdict.NOT_RUN)
    good = [name for name in _SPEED if ratios[name] <= ALIKE]
    return _some_of(good, "you mean")


def _slow(evidence: Evidence, checks: Sequence[str]) -> Ruling:
    del checks
    ratios = evidence.fact(evidence.engine, "speed", "ratios")
    if ratios is None:
        return Ruling(Verdict.NOT_RUN)
    return _some_of([name for name in _SPEED if ratios[name] > ALIKE], "you mean")


def _some_of(names: Sequence[str], words: str) -> Ruling:
    if len(names) == len(_SPEED):
        return Ruling(Verdict.HOLDS)
    if not names:
        return Ruling(Verdict.NOT)
    return Ruling(Verdict.ONLY_IF, f"{words} {' and '.join(names)}")


def _grows(evidence: Evidence, checks: Sequence[str]) -> Ruling:
    ruling = promised(evidence, checks)
    if ruling.verdict is Verdict.HOLDS:
        gain = evidence.fact(evidence.engine, "four_writers", "gain")
        return Ruling(
            Verdict.ONLY_IF,
            f"it means that no writer is refused: four stored {gain:.1f} times as much as one, on "
            "the same machine, and more machines were not tried",
        )
    return ruling


def _json_own_type(evidence: Evidence, checks: Sequence[str]) -> Ruling:
    kind = evidence.fact(evidence.engine, "finds_in_json", "kind")
    ruling = promised(evidence, checks)
    if ruling.verdict is Verdict.HOLDS and "jsonb" not in str(kind):
        return Ruling(Verdict.NOT, f"the column is {kind}")
    return ruling


def _json_basic(evidence: Evidence, checks: Sequence[str]) -> Ruling:
    kind = evidence.fact(evidence.engine, "finds_in_json", "kind")
    if kind is None:
        return Ruling(Verdict.NOT_RUN)
    if "longtext" in kind:
        return Ruling(
            Verdict.HOLDS, "MariaDB keeps JSON as text; MySQL, which was not run, has a binary type"
        )
    if evidence.passes(checks, "as installed"):
        return Ruling(Verdict.NOT)
    return Ruling(Verdict.ONLY_IF, "basic means: no index over every path")


def _json_text(evidence: Evidence, checks: Sequence[str]) -> Ruling:
    del checks
    kind = evidence.fact(evidence.engine, "finds_in_json", "kind")
    if kind is None:
        return Ruling(Verdict.NOT_RUN)
    return Ruling(Verdict.HOLDS if "stored as text" in kind else Verdict.NOT)


def _small(evidence: Evidence, checks: Sequence[str]) -> Ruling:
    ruling = promised(evidence, checks)
    if ruling.verdict is Verdict.HOLDS and not evidence.passes(("two_writers",), "as installed"):
        return Ruling(Verdict.ONLY_IF, "small means that one writes at a time")
    return ruling


def _hard_relations(evidence: Evidence, checks: Sequence[str]) -> Ruling:
    del checks
    if evidence.of("right_answers") is None:
        return Ruling(Verdict.NOT_RUN)
    joins = evidence.passes(("right_answers",), "as installed")
    enforced = promised(evidence, ("broken_rules",)).verdict is not Verdict.NOT
    if joins and enforced:
        return Ruling(Verdict.NOT)
    if joins:
        return Ruling(
            Verdict.ONLY_IF, "a relation is a reference that the database enforces; the join "
            "across three collections was right"
        )  # fmt: skip
    return Ruling(Verdict.HOLDS)


_RELATIONAL = (
    "A question over three tables is answered rightly, and a row that refers to nothing is refused."
)
_COUNTED = "By the only thing that can be counted, how many settings there are: {}."
_TOGETHER = "Two writers do not hinder each other, and of four at once none is refused."

CELLS: Final[tuple[Cell, ...]] = (
    Cell("Tipo", "postgres", "Relacional", "relational", _RELATIONAL,
         ("right_answers", "broken_rules"), promised),
    Cell("Tipo", "mysql", "Relacional", "relational", _RELATIONAL,
         ("right_answers", "broken_rules"), promised),
    Cell("Tipo", "sqlite", "Relacional embebida", "relational, embedded",
         _RELATIONAL + " There is no server.", ("right_answers", "broken_rules"), promised),
    Cell("Complejidad", "postgres", "Media-Alta", "medium to high",
         _COUNTED.format("more than MySQL has"), ("right_answers",), _complexity),
    Cell("Complejidad", "mysql", "Media", "medium",
         _COUNTED.format("more than SQLite, fewer than PostgreSQL"), ("right_answers",),
         _complexity),
    Cell("Complejidad", "sqlite", "Baja", "low",
         _COUNTED.format("the fewest of the three"), ("right_answers",), _complexity),
    Cell("Performance", "postgres", "Excelente", "excellent",
         f"It takes at most {ALIKE} times as long as the quickest, at everything.",
         ("speed",), _quick),
    Cell("Performance", "mysql", "Muy buena", "very good",
         f"It takes at most {ALIKE} times as long as the quickest, at everything.",
         ("speed",), _quick),
    Cell("Performance", "sqlite", "Limitada", "limited",
         f"It takes more than {ALIKE} times as long as the quickest, at everything.",
         ("speed",), _slow),
    Cell("Escalabilidad", "postgres", "Alta", "high", _TOGETHER,
         ("two_writers", "four_writers"), _grows),
    Cell("Escalabilidad", "mysql", "Alta", "high", _TOGETHER,
         ("two_writers", "four_writers"), _grows),
    Cell("Escalabilidad", "sqlite", "Baja", "low",
         "A second writer is refused while a first one's transaction is open.",
         ("two_writers", "four_writers"), denied),
    Cell("ACID", "postgres", "Completo", "complete",
         "All or nothing; wrong rows refused; no anomaly; nothing lost or halved by a kill.",
         _ACID, promised),
    Cell("ACID", "mysql", "Completo", "complete",
         "All or nothing; wrong rows refused; no anomaly; nothing lost or halved by a kill.",
         _ACID, promised),
    Cell("ACID", "sqlite", "Limitado", "limited",
         "At least one of the four letters fails.", _ACID, denied),
    Cell("JSON Support", "postgres", "JSONB (nativo)", "JSONB, native",
         "A type of its own, and an index over all of it that finds one event.",
         ("finds_in_json", "wrong_values"), _json_own_type),
    Cell("JSON Support", "mysql", "JSON (básico)", "JSON, basic",
         "No type of its own, or no index over all of it.", ("finds_in_json",), _json_basic),
    Cell("JSON Support", "sqlite", "JSON (texto)", "JSON as text",
         "What is stored is text.", ("finds_in_json", "wrong_values"), _json_text),
    Cell("Mejor para", "postgres", "Apps complejas", "complex apps",
         "Rules, transactions over several tables and changes of the schema: all by the database.",
         ("all_or_nothing", "schema_change_undone", "wrong_values", "broken_rules"), promised),
    Cell("Mejor para", "mysql", "Web apps", "web apps",
         "Many write at once, none is refused, and a kill loses nothing.",
         ("two_writers", "four_writers", "survives_kill"), promised),
    Cell("Mejor para", "sqlite", "Apps pequeñas", "small apps",
         "Right answers, all or nothing, safe from a kill; but one writer at a time.",
         ("right_answers", "all_or_nothing", "survives_kill", "two_writers"),
         lambda evidence, checks: _small(evidence, checks[:-1])),
)  # fmt: skip
"""The table, row by row."""

BESIDE: Final[tuple[Cell, ...]] = (
    Cell("", "mongodb", "No garantiza ACID en todas las operaciones",
         "does not guarantee ACID in all operations", "At least one of the four letters fails.",
         _ACID, denied),
    Cell("", "mongodb", "Difícil modelar relaciones instancias ↔ sesiones ↔ mensajes",
         "relations are hard to model",
         "The question over three collections fails, or references are not enforced.",
         ("right_answers", "broken_rules"), _hard_relations),
    Cell("", "postgres", "ACID completo (importante para sesiones de WhatsApp)", "complete ACID",
         "All or nothing; wrong rows refused; no anomaly; nothing lost or halved by a kill.",
         _ACID, promised),
    Cell("", "postgres", "Foreign keys para integridad referencial",
         "foreign keys keep references whole",
         "A message of no instance is refused, and so is the removal of one that has messages.",
         ("broken_rules",), promised),
    Cell("", "postgres", "Transacciones complejas (actualizar sesión + guardar mensaje)",
         "transactions over several tables",
         "Both writes or none, also when the server is killed in between.",
         ("all_or_nothing", "survives_kill"), promised),
)  # fmt: skip
"""What the seed says beside the table: MongoDB against PostgreSQL."""
