"""Looking again and again: rates, what is asked less often, and what watching costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from pglab.errors import ServerUnreachableError
from pglab.monitor import MEASURES, Watch, sample_waits
from pglab.monitor.cost import measure_cost

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("monitor-watch")]

Connection = psycopg.Connection[Any]


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    with psycopg.connect(database, autocommit=True) as made:
        yield made


def test_a_round_has_rates_of_what_happened_since_the_one_before(
    connection: Connection, database: str
) -> None:
    watch = Watch(connection)
    first = watch.next()
    assert first.rates == {}
    assert first.rate("activity", "commits") is None
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("CREATE TABLE work AS SELECT n FROM generate_series(1, 5000) AS n")
        other.execute("SELECT pg_stat_force_next_flush()")
    second = watch.next()
    began, ended = (each.readings["activity"].at for each in (first, second))
    assert began
    assert ended
    seconds = (ended - began).total_seconds()
    inserted = second.rate("activity", "rows_inserted")
    assert inserted is not None
    assert inserted * seconds >= 5000
    assert (second.rate("wal", "position_bytes") or 0) > 0
    assert second.took_ms > 0


def test_slow_measures_are_asked_less_often_and_carried_over(connection: Connection) -> None:
    watch = Watch(connection, slow_every_s=3600)
    first, second = watch.next(), watch.next()
    for name, reading in second.readings.items():
        carried = reading is first.readings[name]
        assert carried == MEASURES[name].slow, name
    assert list(first.readings) == list(second.readings)
    assert "table_sizes" not in second.rates
    eager = Watch(connection, slow_every_s=0)
    assert eager.next().readings["table_sizes"] is not eager.next().readings["table_sizes"]


def test_an_extension_that_comes_later_is_noticed(connection: Connection) -> None:
    watch = Watch(connection, ["statements"], slow_every_s=0)
    assert watch.next().readings["statements"].skipped
    connection.execute("CREATE EXTENSION pg_stat_statements")
    reading = watch.next().readings["statements"]
    assert reading.skipped == ""
    assert watch.next().rates["statements"]


def test_a_server_that_is_gone_is_named(connection: Connection, database: str) -> None:
    watch = Watch(connection)
    watch.next()
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
    with pytest.raises(ServerUnreachableError):
        watch.next()


def test_waits_are_shares_of_many_looks(connection: Connection, database: str) -> None:
    with psycopg.connect(database, autocommit=True) as busy:
        busy.execute("SET statement_timeout = '60s'")
        busy.pgconn.send_query(b"SELECT pg_sleep(60)")
        time.sleep(0.05)
        waits = sample_waits(connection, seconds=0.4, every_s=0.02)
        busy.cancel_safe(timeout=5)
        while busy.pgconn.get_result() is not None:
            pass
    sleeping = [each for each in waits if each["event"] == "PgSleep"]
    assert [each["type"] for each in sleeping] == ["Timeout"]
    assert sleeping[0]["seen"] > 2
    assert sleeping[0]["sessions"] > 0.5


def test_the_cost_is_measured_side_by_side() -> None:
    found = measure_cost(tables=12, pairs=2, seconds=1, answers=2)
    assert found.tables == 12
    assert len(found.with_watch) == len(found.without) == len(found.answers_ms) == 2
    assert min(*found.with_watch, *found.without) > 10
    assert "12 tables: all questions answered in" in found.text()
