"""What rows mean, in words; rates; and how numbers, names and rounds are shown."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from pglab.errors import ConfigError
from pglab.monitor import MEASURES, REDIS_MEASURES, rates
from pglab.monitor.asking import Server
from pglab.monitor.catalogue import SURVEY, find
from pglab.monitor.cost import Cost
from pglab.monitor.live import page_of
from pglab.monitor.measure import Reading
from pglab.monitor.redis import _command, pattern_of
from pglab.monitor.terminal import Dashboard, reading_table
from pglab.monitor.units import count, duration, percent, size
from pglab.monitor.watch import Round

NOW = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)


def reading(name: str, *rows: dict[str, Any], at: datetime = NOW, skipped: str = "") -> Reading:
    measure = {**MEASURES, **REDIS_MEASURES}[name]
    full = tuple({**dict.fromkeys(measure.columns), **row} for row in rows)
    return Reading(measure=measure, rows=full, at=at, skipped=skipped)


def found(name: str, *rows: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each.weight, each.text) for each in reading(name, *rows).findings]


# The measures as data


@pytest.mark.parametrize(
    "measure", [*MEASURES.values(), *REDIS_MEASURES.values()], ids=lambda each: each.name
)
def test_every_measure_explains_itself(measure: Any) -> None:
    assert measure.question.endswith((")", "?"))
    assert measure.rule
    assert measure.title
    assert set(measure.counters) <= set(measure.columns)
    assert set(measure.key) <= set(measure.columns)


@pytest.mark.parametrize("name", MEASURES)
def test_variants_come_in_the_order_of_their_versions(name: str) -> None:
    versions = [(v.server, v.extension) for v in MEASURES[name].variants]
    assert versions == sorted(versions)
    assert MEASURES[name].reads_tables == (name not in SURVEY)


@pytest.mark.parametrize(
    ("name", "server", "extension", "has", "lacks"),
    [
        ("io", 160_004, (0, 0), "op_bytes", "i.read_bytes"),
        ("io", 170_000, (0, 0), "op_bytes", "i.read_bytes"),
        ("io", 180_000, (0, 0), "i.read_bytes", "op_bytes"),
        ("wal", 170_010, (0, 0), "w.wal_sync", "pg_stat_io"),
        ("wal", 180_000, (0, 0), "pg_stat_io", "w.wal_sync"),
        ("checkpoints", 160_004, (0, 0), "checkpoints_timed", "pg_stat_checkpointer"),
        ("checkpoints", 170_000, (0, 0), "pg_stat_checkpointer", "checkpoints_timed"),
        ("statements", 170_000, (1, 10), "s.blk_read_time", "shared_blk_read_time"),
        ("statements", 170_000, (1, 11), "shared_blk_read_time", "s.wal_buffers_full"),
        ("statements", 180_000, (1, 12), "s.wal_buffers_full", " s.blk_read_time"),
        ("dead_rows", 170_000, (0, 0), "scale_factor", "setting('autovacuum_vacuum_max"),
        ("dead_rows", 180_000, (0, 0), "setting('autovacuum_vacuum_max", "never"),
    ],
)
def test_each_version_gets_its_own_columns(
    name: str, server: int, extension: tuple[int, int], has: str, lacks: str
) -> None:
    text = MEASURES[name].sql(server, extension)
    assert text
    assert has in text
    assert lacks not in text


def test_a_server_that_is_too_old_gets_no_query() -> None:
    assert MEASURES["io"].sql(150_018) is None
    assert MEASURES["io"].oldest == 16


def test_an_unknown_name_lists_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="no measure is called 'lock'; choose of: connections,"):
        find(["connections", "lock"])


# Findings


def connections(used: int, room: int, idle: int = 0) -> list[tuple[str, str]]:
    shared = {"all_sessions": used, "room": room, "longest_s": 1.0, "database": "x"}
    return found(
        "connections",
        {**shared, "state": "active", "sessions": used - idle},
        {**shared, "state": "idle", "sessions": idle},
    )


def test_connections_are_judged_by_the_room_that_is_left() -> None:
    assert connections(79, 100) == []
    assert connections(80, 100) == [("warning", "80 client connections of 100 that may be")]
    assert connections(95, 100) == [("fault", "95 client connections of 100 that may be")]
    assert connections(20, 100, idle=16) == [("note", "16 of 20 client connections are idle")]
    assert connections(19, 100, idle=19) == []
    assert found("connections") == []


def test_idle_in_transaction_is_judged_by_its_state_s_age_and_work_by_the_transaction_s() -> None:
    row = {"pid": 7, "application": "app", "username": "u", "transaction_s": 100.0}
    idle = {**row, "state": "idle in transaction (aborted)"}
    assert found("long_transactions", {**idle, "in_state_s": 9.9}) == []
    ((weight, text),) = found("long_transactions", {**idle, "in_state_s": 75.0})
    assert weight == "warning"
    assert text.startswith("session 7 (app) is idle in transaction (aborted) for 1 min 15 s")
    active = {**row, "state": "active", "in_state_s": 1.0}
    assert found("long_transactions", active) == []
    assert found("long_transactions", {**active, "transaction_s": 301.0}) == [
        ("warning", "session 7 (app) is in one transaction for 5 min 1 s")
    ]


def test_a_high_hit_ratio_is_no_good_news_with_whole_scans() -> None:
    row = {"database": "x", "hits": 999_000, "reads": 1_000, "ratio": 0.999}
    few = {"rows_read_by_whole_scans": 100, "rows_fetched_by_indexes": 100}
    many = {"rows_read_by_whole_scans": 5_000_000, "rows_fetched_by_indexes": 1_000}
    assert found("cache_hit_ratio", {**row, **few}) == []
    ((weight, text),) = found("cache_hit_ratio", {**row, **many})
    assert weight == "note"
    assert text.startswith("99.9 % of the pages were in memory, and still 5,000,000 rows")
    low = {"database": "x", "hits": 800_000, "reads": 200_000, "ratio": 0.8}
    assert found("cache_hit_ratio", {**low, **few})[0][1].startswith("80.0 % of the pages")
    assert found("cache_hit_ratio", {**row, **few, "ratio": None}) == []


def test_a_whole_scan_counts_when_it_is_large_and_frequent() -> None:
    row = {"table": "public.t", "whole_scans": 50, "rows_per_scan": 10_000}
    assert len(found("sequential_scans", row)) == 1
    assert found("sequential_scans", {**row, "whole_scans": 49}) == []
    assert found("sequential_scans", {**row, "rows_per_scan": 9_999}) == []


def test_dead_rows_are_judged_by_autovacuum_s_own_limit() -> None:
    row = {"table": "t", "live_rows": 10_000, "autovacuum_at": 2_050, "autovacuum_enabled": True,
           "autovacuum_on_server": True}  # fmt: skip
    assert found("dead_rows", {**row, "dead_rows": 4_100}) == []
    assert found("dead_rows", {**row, "dead_rows": 4_101})[0][0] == "warning"
    off = {**row, "autovacuum_enabled": False}
    assert "autovacuum is off for it" in found("dead_rows", {**off, "dead_rows": 1_001})[0][1]
    nowhere = reading("dead_rows", {**off, "dead_rows": 1_001, "autovacuum_on_server": False})
    (finding,) = nowhere.findings
    assert finding.text.endswith("autovacuum is off on the whole server")
    assert finding.remedy.startswith("ALTER SYSTEM SET autovacuum = on")


def test_a_foreign_key_weighs_by_its_table() -> None:
    row = {"table": "t", "columns": "a", "refers_to": "p", "remedy": "CREATE INDEX …"}
    assert found("foreign_keys_without_index", {**row, "estimated_rows": 10_000})[0][0] == "warning"
    assert found("foreign_keys_without_index", {**row, "estimated_rows": 9_999})[0][0] == "note"
    assert found("foreign_keys_without_index", {**row, "estimated_rows": None})[0][0] == "note"
    half = {**row, "estimated_rows": 10_000_000, "half_served_by": "i"}
    assert found("foreign_keys_without_index", half) == [
        ("note", "t (a) refers to p; i serves only a part of that key")
    ]


@pytest.mark.parametrize(
    ("name", "row", "weight"),
    [
        ("database_sizes", {"quoted": "x", "age_transactions": 1_300_000_000}, "fault"),
        ("database_sizes", {"quoted": "x", "age_transactions": 199_000_000}, None),
        ("checkpoints", {"requested": 10, "timed": 9}, "warning"),
        ("checkpoints", {"requested": 10, "timed": 10}, None),
        ("wal", {"records": 200_000, "full_pages": 50_000}, "note"),
        ("wal", {"records": 200_000, "full_pages": 30_000}, None),
        ("replication", {"application": "r", "lag_bytes": 1e8, "replay_lag_s": None}, "warning"),
        ("replication", {"application": "r", "lag_bytes": 10, "replay_lag_s": 11.0}, "warning"),
        ("replication", {"application": "r", "lag_bytes": 10, "replay_lag_s": None}, None),
        ("replication_slots", {"slot": "s", "active": False, "retained_bytes": 5.0}, "warning"),
        ("replication_slots", {"slot": "s", "active": True, "retained_bytes": 5e9}, None),
        ("replica", {"receiver": None, "lag_s": 0.0}, "fault"),
        ("replica", {"receiver": "streaming", "lag_s": 20.0}, "warning"),
        ("replica", {"receiver": "streaming", "lag_s": 0.0}, None),
        ("bloat", {"table": "t", "free_share": 0.5, "free_bytes": 2_000_000}, "note"),
        ("bloat", {"table": "t", "free_share": 0.5, "free_bytes": 2_000}, None),
        ("index_bloat", {"index": "i", "leaf_density": 0.5, "index_bytes": 2_000_000}, "note"),
        ("index_bloat", {"index": "i", "leaf_density": None, "index_bytes": 2_000_000}, None),
        ("activity", {"deadlocks": 1, "commits": 5, "rollbacks": 0, "temporary_bytes": 0},
         "warning"),
        ("activity", {"deadlocks": 0, "commits": 5000, "rollbacks": 900, "temporary_bytes": 0},
         "note"),
        ("activity", {"deadlocks": 0, "commits": 5000, "rollbacks": 10, "temporary_bytes": 0},
         None),
    ],
)  # fmt: skip
def test_a_rule_finds_its_fault_and_nothing_else(
    name: str, row: dict[str, Any], weight: str | None
) -> None:
    assert [each for each, _ in found(name, row)] == ([weight] if weight else [])


REDIS = {
    "memory_bytes": 50, "max_memory_bytes": 100, "policy": "allkeys-lru", "evicted": 0,
    "rejected_connections": 0, "last_save_ok": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "weights"),
    [
        ({}, []),
        ({"max_memory_bytes": None}, ["note"]),
        ({"memory_bytes": 90}, ["warning"]),
        ({"memory_bytes": 90, "policy": "noeviction"}, ["fault"]),
        ({"evicted": 1, "rejected_connections": 1, "last_save_ok": False},
         ["note", "warning", "fault"]),
    ],
)  # fmt: skip
def test_redis_is_judged_by_its_limits(change: dict[str, Any], weights: list[str]) -> None:
    assert [weight for weight, _ in found("redis_info", {**REDIS, **change})] == weights


# Rates


def counted(n: float | None, seconds: float = 0, name: str = "x") -> Reading:
    row = dict.fromkeys(MEASURES["activity"].columns, 0)
    return reading(
        "activity", {**row, "database": name, "commits": n}, at=NOW + timedelta(seconds=seconds)
    )


def test_a_rate_is_the_difference_over_the_time() -> None:
    (row,) = rates(counted(100), counted(130, 2))
    assert row["commits_per_s"] == 15
    assert row["database"] == "x"


def test_a_counter_that_fell_was_reset() -> None:
    (row,) = rates(counted(100), counted(3, 2))
    assert row["commits_per_s"] is None


def test_what_was_not_there_before_has_no_rate() -> None:
    assert rates(counted(100, name="other"), counted(130, 2)) == []
    (row,) = rates(counted(None), counted(130, 2))
    assert row["commits_per_s"] is None


def test_two_readings_that_make_no_rate() -> None:
    with pytest.raises(ConfigError, match="is not later than the first"):
        rates(counted(1, 2), counted(2, 2))
    with pytest.raises(ConfigError, match="make no rate; give two readings of one measure"):
        rates(reading("connections"), counted(2))
    with pytest.raises(ConfigError, match="make no rate"):
        rates(reading("connections"), reading("connections", at=NOW + timedelta(seconds=1)))


# Words


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0 B"), (1023, "1,023 B"), (1536, "1.5 kB"), (1_048_576, "1.0 MB"), (None, "?"),
     (250 * 1024**2, "250 MB"), (3 * 1024**6, "3,072 PB")],
)  # fmt: skip
def test_sizes(value: float | None, said: str) -> None:
    assert size(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 ms"), (0.00008, "80 µs"), (0.34, "340 ms"), (5, "5.0 s"), (12, "12 s"),
     (59.6, "1 min"), (185, "3 min 5 s"), (7440, "2 h 4 min"), (90_000, "1 d 1 h"), (None, "?")],
)  # fmt: skip
def test_durations(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


def test_counts_and_shares() -> None:
    assert count(1, "other") == "1 other"
    assert count(1200, "session") == "1,200 sessions"
    assert percent(1, 0) == "–"


@pytest.mark.parametrize(
    ("key", "pattern"),
    [
        (b"wa:instance:0b5c8a52-6b7e-4e4e-9b51-0123456789ab", "wa:instance:*"),
        ("session:12:7", "session:*:*"),
        ("51999999999@s.whatsapp.net", "*@s.whatsapp.net"),
        ("token:DEADBEEFDEADBEEF00", "token:*"),
        (b"caf\xc3\xa9:\xff1", "café:\\xff*"),
        ("settings", "settings"),
    ],
)
def test_a_key_s_kind(key: bytes | str, pattern: str) -> None:
    assert pattern_of(key) == pattern


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (b"SET session:1 secret EX 10", "SET session:1 …"),
        ("AUTH secret", "AUTH …"),
        (b"HELLO 3 AUTH me secret", "HELLO …"),
        (b"CONFIG SET requirepass secret", "CONFIG …"),
        ([b"GET", b"a"], "GET a"),
        (b"PING", "PING"),
    ],
)
def test_a_slow_command_shows_no_secret(command: Any, shown: str) -> None:
    assert _command(command) == shown
    assert "secret" not in _command(command)


# How it looks


def a_round(name: str = "app") -> Round:
    server = Server(170_010, "watcher", frozenset(), {}, NOW)
    tree = [
        {"depth": 0, "pid": 1, "application": name, "state": "idle in transaction", "holds_up": 1,
         "query": "UPDATE t"},
        {"depth": 1, "pid": 2, "application": "b", "state": "active", "waiting_s": 2.0,
         "query": "SELECT", "holds_up": 0},
    ]  # fmt: skip
    readings = [
        reading("connections", {"database": "x", "state": "active", "sessions": 2,
                                "longest_s": 1.0, "all_sessions": 2, "room": 97}),
        reading("waits", {"type": "Lock", "event": "relation", "sessions": 1}),
        reading("blocking_tree", *tree),
        reading("table_sizes", {"schema": "s", "name": name, "table": name, "total_bytes": 9,
                                "all_bytes": 10, "table_bytes": 9}),
        reading("statements", {"time_share": 0.5, "calls": 9, "mean_ms": 1.0, "total_ms": 9.0,
                               "pages_per_call": 3.0, "query": f"SELECT {name}"}),
        reading("io", skipped="needs PostgreSQL 16; this is 15"),
    ]  # fmt: skip
    activity = {"commits_per_s": 12.0, "pages_hit_per_s": 0.0, "pages_read_per_s": 0.0}
    grown = {"activity": [activity], "wal": [{"position_bytes_per_s": 2048.0}]}
    return Round(server, {each.name: each for each in readings}, grown, 5.0)


def test_a_live_page_says_what_it_may_not_see() -> None:
    seen = a_round()
    needs = "needs the role pg_read_all_stats; a superuser says: GRANT pg_monitor TO <reader>"
    readings = {**seen.readings, "connections": reading("connections", skipped=needs)}
    page = page_of([Round(seen.server, readings, seen.rates, 5.0)], [])
    assert "0 of 0" not in page
    assert "connections was not asked: needs the role pg_read_all_stats" in page
    assert "&lt;reader&gt;" in page


def test_pages_a_second_are_those_of_the_last_round() -> None:
    seen = a_round()
    grown = {"activity": [{"commits_per_s": 1.0, "pages_hit_per_s": 900.0,
                           "pages_read_per_s": 100.0}]}  # fmt: skip
    seen = Round(seen.server, seen.readings, grown, 5.0)
    assert "pages/s 1,000" in printed(Dashboard("x").show(seen, width=120), 120)


def printed(what: Any, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_a_dashboard_fits_any_width(width: int) -> None:
    text = printed(Dashboard("x").show(a_round(), width=width, every_s=2), width)
    assert max(map(len, text.splitlines())) <= width
    for word in ("pglab monitor", "Findings", "Who blocks whom"):
        assert word in text


def test_the_dashboard_names_what_it_left_out_and_the_gravest_first() -> None:
    text = printed(Dashboard("x").show(a_round(), width=100), 100)
    assert "not asked: io (needs PostgreSQL 16; this is 15)" in text
    assert "commits/s 12" in text
    assert "log/s 2.0 kB" in text
    assert "Ctrl-C" not in text
    assert text.index("holds up 1 other") < text.index("takes 9 B")


def test_no_name_can_steer_the_terminal() -> None:
    evil = "\x1b]0;title\x07\x1b[2J\u202e[red]x[/red]"
    text = printed(Dashboard(evil).show(a_round(evil), width=120), 120)
    text += printed(reading_table(a_round(evil).readings["table_sizes"]), 200)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "[red]x[/red]" in text


def test_no_name_can_steer_the_notebook() -> None:
    page = page_of([a_round("<script>alert(1)</script>")], [{"<b>": 1.0}])
    assert "<script" not in page
    assert "<b>&lt;b&gt;" not in page
    assert "&lt;script&gt;" in page


def test_a_reading_is_a_table_with_units() -> None:
    text = printed(reading_table(a_round().readings["table_sizes"]), 200)
    assert "Largest tables" in text
    assert "9 B" in text
    assert "not asked: needs PostgreSQL 16" in printed(reading_table(a_round().readings["io"]), 200)
    assert "no rows" in printed(reading_table(reading("waits")), 80)


def test_a_missing_number_makes_no_float_of_a_column() -> None:
    frame = reading("blocking_tree", {"depth": 0, "pid": 1}, {"depth": 1, "blocked_by": 1}).frame()
    assert str(frame["blocked_by"].dtype) == "Int64"
    assert frame["application"].tolist() == [None, None]


# The numbers


def a_cost(with_watch: float, answers_ms: float = 100.0) -> Cost:
    return Cost(500, 2, (answers_ms,) * 3, (with_watch,) * 8, (1000.0,) * 8, 60.0, 10.0)


def test_the_cost_says_whether_the_numbers_are_kept() -> None:
    assert a_cost(990.0).passed
    assert not a_cost(970.0).passed
    assert not a_cost(990.0, answers_ms=151.0).passed
    assert "500 tables: all questions answered in 100 ms" in a_cost(990.0).text()
    assert "loses 1.0 % to a watch every 2 s" in a_cost(990.0).text()
    assert "which is too much" in a_cost(970.0).text()
    assert a_cost(990.0).cpu_share == pytest.approx(0.005 + 0.002)
    assert "that is 0.70 % of one core" in a_cost(990.0).text()
    assert a_cost(990.0).to_json()["kept"]["value"] == pytest.approx(0.99)
