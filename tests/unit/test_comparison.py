"""How verdicts follow from what was seen, and how they are shown and kept: no server is needed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pglab.comparison import kept
from pglab.comparison.cells import BESIDE, CELLS, COLUMNS, ROWS
from pglab.comparison.checks import CHECKS
from pglab.comparison.contract import AS_INSTALLED
from pglab.comparison.judging import Verdict
from pglab.comparison.mariadb import MYISAM, SERIALIZABLE
from pglab.comparison.places import MARIADB_URL, MONGODB_URL, find, mariadb_parameters
from pglab.comparison.result import SETUPS, Comparison, EngineNote
from pglab.comparison.seen import Seen
from pglab.comparison.view import SIGNS, as_html, as_text
from pglab.errors import ConfigError, ResultError, ServerError

SEED = {
    ("Tipo", "postgres"): "Relacional",
    ("Tipo", "mysql"): "Relacional",
    ("Tipo", "sqlite"): "Relacional embebida",
    ("Complejidad", "postgres"): "Media-Alta",
    ("Complejidad", "mysql"): "Media",
    ("Complejidad", "sqlite"): "Baja",
    ("Performance", "postgres"): "Excelente",
    ("Performance", "mysql"): "Muy buena",
    ("Performance", "sqlite"): "Limitada",
    ("Escalabilidad", "postgres"): "Alta",
    ("Escalabilidad", "mysql"): "Alta",
    ("Escalabilidad", "sqlite"): "Baja",
    ("ACID", "postgres"): "Completo",
    ("ACID", "mysql"): "Completo",
    ("ACID", "sqlite"): "Limitado",
    ("JSON Support", "postgres"): "JSONB (nativo)",
    ("JSON Support", "mysql"): "JSON (básico)",
    ("JSON Support", "sqlite"): "JSON (texto)",
    ("Mejor para", "postgres"): "Apps complejas",
    ("Mejor para", "mysql"): "Web apps",
    ("Mejor para", "sqlite"): "Apps pequeñas",
}


def seen(engine: str, check: str, passed: bool | None, setup: str = AS_INSTALLED, **facts) -> Seen:
    return Seen(check, engine, setup, "Something was run.", "Something was seen.", passed, facts)


def comparison(*found: Seen, missing: dict[str, str] | None = None) -> Comparison:
    names = {each.engine for each in found}
    notes = {name: EngineNote(name.title(), "1.2", "a test's words") for name in names}
    return Comparison(tuple(found), notes, missing or {}, "a machine", "2026-11-24")


def verdict(found: Comparison, row: str, engine: str) -> tuple[Verdict, str]:
    judged = found.find(row, engine)
    return judged.verdict, judged.ruling.words


# The cells


def test_every_cell_of_the_seeds_table_is_there_word_for_word() -> None:
    assert {(cell.row, cell.engine): cell.claim for cell in CELLS} == SEED
    assert [(cell.row, cell.engine) for cell in CELLS] == [(r, c) for r in ROWS for c in COLUMNS]


def test_what_the_seed_says_beside_it_is_there() -> None:
    assert [cell.engine for cell in BESIDE] == ["mongodb", "mongodb", *["postgres"] * 3]


def test_every_cell_names_checks_that_exist() -> None:
    known = {*CHECKS, "speed", "four_writers"}
    for cell in (*CELLS, *BESIDE):
        assert cell.checks
        assert set(cell.checks) <= known, cell


def test_set_ups_name_checks_that_exist() -> None:
    for setups in SETUPS.values():
        assert next(iter(setups)) == AS_INSTALLED
        assert all(setup.checks <= {*CHECKS, "four_writers"} for setup in setups.values())


# Verdicts

ACID = ("all_or_nothing", "wrong_values", "broken_rules", "no_anomaly", "survives_kill")


def acid(engine: str, *failing: str) -> list[Seen]:
    return [seen(engine, check, check not in failing) for check in ACID]


def test_what_passes_as_installed_holds() -> None:
    assert verdict(comparison(*acid("postgres")), "ACID", "postgres") == (Verdict.HOLDS, "")


def test_what_passes_in_a_set_up_holds_only_with_its_condition() -> None:
    found = comparison(
        *acid("postgres", "no_anomaly"), seen("postgres", "no_anomaly", True, SERIALIZABLE)
    )
    assert verdict(found, "ACID", "postgres") == (
        Verdict.ONLY_IF,
        "transactions ask for ISOLATION LEVEL SERIALIZABLE",
    )


def test_what_a_set_up_spoils_is_a_condition_too() -> None:
    found = comparison(*acid("mysql"), seen("mysql", "all_or_nothing", False, MYISAM))
    assert verdict(found, "ACID", "mysql") == (
        Verdict.ONLY_IF,
        "no table is made with ENGINE = MyISAM",
    )
    both = comparison(
        *acid("mysql", "no_anomaly"),
        seen("mysql", "no_anomaly", True, SERIALIZABLE),
        seen("mysql", "all_or_nothing", False, MYISAM),
    )
    assert verdict(both, "ACID", "mysql")[1] == " and ".join(
        [
            "transactions ask for ISOLATION LEVEL SERIALIZABLE,",
            "no table is made with ENGINE = MyISAM",
        ]
    )


def test_what_never_passes_does_not_hold() -> None:
    found = comparison(*acid("postgres", "survives_kill"))
    assert verdict(found, "ACID", "postgres") == (Verdict.NOT, "")


def test_a_claim_of_a_fault_is_judged_the_other_way_round() -> None:
    assert verdict(comparison(*acid("sqlite")), "ACID", "sqlite")[0] is Verdict.NOT
    careless = [*acid("sqlite", "broken_rules"), seen("sqlite", "broken_rules", True, "with care")]
    ruling = verdict(comparison(*careless), "ACID", "sqlite")
    assert ruling[0] is Verdict.ONLY_IF
    assert ruling[1].startswith("it is left as installed: it passes if every connection says")
    judged, words = verdict(comparison(*acid("sqlite", "survives_kill")), "ACID", "sqlite")
    assert judged is Verdict.HOLDS
    assert words.startswith("even if every connection says PRAGMA foreign_keys = ON")
    assert words.endswith("it fails at: survives kill")


def test_what_was_not_run_is_not_judged() -> None:
    found = comparison(*acid("postgres"), missing={"mysql": "mariadbd is not here"})
    assert verdict(found, "ACID", "mysql") == (Verdict.NOT_RUN, "mariadbd is not here")
    assert verdict(found, "Performance", "postgres")[0] is Verdict.NOT_RUN
    no_kill = [each if each.check != "survives_kill" else replace(each, passed=None)
               for each in acid("postgres")]  # fmt: skip
    assert verdict(comparison(*no_kill), "ACID", "postgres")[0] is Verdict.NOT_RUN


@pytest.mark.parametrize(
    ("ratios", "quick", "slow"),
    [
        ((1.0, 1.4, 1.5), Verdict.HOLDS, Verdict.NOT),
        ((1.0, 1.4, 1.6), Verdict.ONLY_IF, Verdict.ONLY_IF),
        ((2.0, 2.0, 9.0), Verdict.NOT, Verdict.HOLDS),
    ],
)
def test_speed_is_judged_by_the_factor_to_the_quickest(
    ratios: tuple[float, ...], quick: Verdict, slow: Verdict
) -> None:
    facts = dict(zip(("ingest", "load", "inbox"), ratios, strict=True))
    found = comparison(
        seen("postgres", "speed", None, ratios=facts), seen("sqlite", "speed", None, ratios=facts)
    )
    assert verdict(found, "Performance", "postgres")[0] is quick
    assert verdict(found, "Performance", "sqlite")[0] is slow


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((30, 20, 10), (Verdict.HOLDS, Verdict.HOLDS, Verdict.HOLDS)),
        ((20, 30, 10), (Verdict.NOT, Verdict.NOT, Verdict.HOLDS)),
        ((30, 10, 20), (Verdict.HOLDS, Verdict.NOT, Verdict.NOT)),
    ],
)
def test_complexity_is_judged_by_the_order_of_counts(
    counts: tuple[int, ...], expected: tuple[Verdict, ...]
) -> None:
    found = comparison(
        *(
            seen(engine, "right_answers", True, settings=count, product=engine)
            for engine, count in zip(COLUMNS, counts, strict=True)
        )
    )
    assert tuple(verdict(found, "Complejidad", engine)[0] for engine in COLUMNS) == expected


def test_json_is_judged_by_what_the_column_is() -> None:
    kinds = {
        "postgres": "jsonb, with a gin index over all of it",
        "mysql": "declared json, made as longtext",
        "sqlite": "declared JSON, stored as text",
    }
    found = comparison(
        *(
            seen(engine, check, True, kind=kind)
            for engine, kind in kinds.items()
            for check in ("finds_in_json", "wrong_values")
        )
    )
    for engine in COLUMNS:
        assert verdict(found, "JSON Support", engine)[0] is Verdict.HOLDS
    other = comparison(seen("mysql", "finds_in_json", False, kind="declared json, made as json"))
    assert verdict(other, "JSON Support", "mysql")[0] is Verdict.ONLY_IF


# Showing


def whole() -> Comparison:
    found = [
        *acid("postgres", "no_anomaly"), seen("postgres", "no_anomaly", True, SERIALIZABLE),
        *acid("sqlite", "wrong_values"),
    ]  # fmt: skip
    return comparison(*found, missing={"mysql": "mariadbd <is> not here", "mongodb": "nor this"})


def test_the_table_is_readable_without_colour_and_every_cell_opens() -> None:
    page = as_html(whole())
    cells = re.findall(r"<td[^>]*>.*?</td>", page)
    assert len(cells) == len(CELLS) + len(BESIDE)
    for cell in cells:
        words = re.sub(r"<[^>]+>", "", cell)
        assert any(f"{sign} {verdict.value}" in words for verdict, sign in SIGNS.items())
        assert "<details><summary>" in cell
        assert "Read as" in cell
    assert "mariadbd &lt;is&gt; not here" in page
    assert "<is>" not in page


def test_the_text_has_claim_run_seen_and_verdict_of_each() -> None:
    text = as_text(whole())
    for cell in (*CELLS, *BESIDE):
        assert f"“{cell.claim}”" in re.sub(r"\s+", " ", text)
    assert "ran: Something was run." in text
    assert "all or nothing: passes. Something was seen." in text
    assert max(map(len, text.splitlines())) <= 120


def test_rows_for_a_table_name_engine_and_set_up() -> None:
    found = whole()
    assert found.find("ACID", "postgres").rows()[-2:] == [
        {"check": "no anomaly", "set-up": SERIALIZABLE, "passes": True,
         "what was seen": "Something was seen."},
        {"check": "survives kill", "set-up": AS_INSTALLED, "passes": True,
         "what was seen": "Something was seen."},
    ]  # fmt: skip
    assert [(row["engine"], row["set-up"], row["passes"]) for row in found.rows("no_anomaly")] == [
        ("Postgres 1.2", AS_INSTALLED, False),
        ("Postgres 1.2", SERIALIZABLE, True),
        ("Sqlite 1.2", AS_INSTALLED, True),
    ]


# Keeping


def test_what_is_kept_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    kept.keep(whole(), path)
    assert kept.load(path) == whole()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 99}', '{"format": 1, "day": 1}'])
def test_a_spoilt_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "kept.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ResultError, match=re.escape(str(path))):
        kept.load(path)


def test_a_missing_engine_shows_what_is_kept_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    before = comparison(
        *acid("mysql", "no_anomaly"), seen("mysql", "no_anomaly", True, SERIALIZABLE)
    )
    kept.keep(replace(before, machine="another machine", day="2026-01-02"), tmp_path / "a.json")
    found = kept.with_kept(whole())
    judged = found.find("ACID", "mysql")
    assert judged.verdict is Verdict.ONLY_IF
    assert judged.source is not None
    assert judged.source.kept
    assert "kept from 2026-01-02, another machine; not run here" in str(judged.source)
    assert "(kept from 2026-01-02)" in as_html(found)
    assert "(kept from 2026-01-02)" in as_text(found)
    assert found.find("ACID", "postgres").source == whole().find("ACID", "postgres").source
    # What is kept of others is not kept again as ours.
    kept.keep(found, tmp_path / "b.json")
    assert set(json.loads((tmp_path / "b.json").read_text())["engines"]) == {"postgres", "sqlite"}


def test_the_kept_references_can_be_read_and_judge_every_cell() -> None:
    references = list(kept.references())
    assert references, "data/comparison holds no reference"
    nothing = Comparison((), {}, dict.fromkeys(SETUPS, "not here"), "a machine", "2026-11-24")
    found = kept.with_kept(nothing)
    for judged in (*found.table(), *found.beside()):
        assert judged.verdict is not Verdict.NOT_RUN, judged.cell
        assert judged.source is not None
        assert judged.source.kept
        assert judged.seen
    assert {found.source(name).note.product for name in SETUPS} >= {"PostgreSQL", "SQLite"}


# Finding


def test_a_url_of_mariadbs_is_read_with_its_quoting() -> None:
    assert mariadb_parameters("mysql://ana:p%40ss%2Fw@db.example:3307/x") == {
        "host": "db.example", "port": 3307, "user": "ana", "password": "p@ss/w",
    }  # fmt: skip
    assert mariadb_parameters("mariadb://localhost")["port"] == 3306


@pytest.mark.parametrize("url", ["postgresql://a@b/c", "mysql://", "mysql://h:port", "nonsense"])
def test_another_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match=MARIADB_URL) as caught:
        mariadb_parameters(url.replace("//", "//user:secret@", 1) if "//h" in url else url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "variable", "url"),
    [
        ("mysql", MARIADB_URL, "mysql://nobody:secret@127.0.0.1:1"),
        ("mongodb", MONGODB_URL, "mongodb://nobody:secret@127.0.0.1:1/?serverSelectionTimeoutMS=1"),
    ],
)
def test_a_server_that_does_not_answer_is_missing(
    name: str, variable: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, url)
    monkeypatch.setattr("pglab.comparison.mongodb._WAIT_MS", 200)
    with pytest.raises(ServerError, match="does not answer") as caught, find(name):
        pass
    assert "secret" not in str(caught.value)


def test_without_programs_and_engine_the_reason_says_what_would_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(MARIADB_URL, raising=False)
    monkeypatch.delenv(MONGODB_URL, raising=False)
    monkeypatch.setattr("pglab.comparison.mariadb_server.server_program", lambda: None)
    monkeypatch.setattr("pglab.comparison.secantus_server.server_program", lambda: None)
    monkeypatch.setattr("pglab.servers.engine.engine_problem", lambda: "no engine answers")
    for name in ("mysql", "mongodb"):
        with pytest.raises(ServerError, match="no engine answers"), find(name):
            pass
