"""The comparison on real engines: what each check sees, and that nothing of it is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from comparison_support import here

from pglab.comparison.checks import CHECKS
from pglab.comparison.checks.ground import prepared, refill
from pglab.comparison.contract import AS_INSTALLED, Refused, opened
from pglab.comparison.levels import LEVELS, what_each_level_shows
from pglab.comparison.places import MONGODB_URL, Place, find
from pglab.comparison.power_cut import kill_while_writing
from pglab.comparison.speed import OPERATIONS, measure, measure_writers
from pglab.comparison.workload import BUSY, event
from pglab.servers.scratch import scratch_postgres

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("comparison")]

NAMES = ("postgres", "mysql", "sqlite", "mongodb")

# What must be seen, by engine, set-up and check. Where a set-up changes nothing it is not named.
PASSES = {
    ("postgres", AS_INSTALLED): {
        "right_answers": True, "finds_in_json": True, "all_or_nothing": True,
        "schema_change_undone": True, "wrong_values": True, "broken_rules": True,
        "no_anomaly": False, "two_writers": True, "survives_kill": True,
    },
    ("postgres", "SERIALIZABLE"): {"no_anomaly": True},
    ("mysql", AS_INSTALLED): {
        "right_answers": True, "finds_in_json": False, "all_or_nothing": True,
        "schema_change_undone": False, "wrong_values": True, "broken_rules": True,
        "no_anomaly": False, "two_writers": True, "survives_kill": True,
    },
    ("mysql", "SERIALIZABLE"): {"no_anomaly": True},
    ("mysql", "generated column"): {"finds_in_json": True},
    ("mysql", "MyISAM tables"): {
        "all_or_nothing": False, "broken_rules": False, "no_anomaly": False,
        "survives_kill": False,
    },
    ("sqlite", AS_INSTALLED): {
        "right_answers": True, "finds_in_json": False, "all_or_nothing": True,
        "schema_change_undone": True, "wrong_values": False, "broken_rules": False,
        "no_anomaly": True, "two_writers": False, "survives_kill": True,
    },
    ("sqlite", "foreign keys on"): {"broken_rules": True},
    ("sqlite", "with care"): {
        "finds_in_json": True, "wrong_values": True, "broken_rules": True, "two_writers": False,
    },
    ("mongodb", AS_INSTALLED): {
        "right_answers": True, "finds_in_json": True, "all_or_nothing": False,
        "schema_change_undone": False, "wrong_values": False, "broken_rules": False,
        "no_anomaly": False, "two_writers": True, "survives_kill": False,
    },
    ("mongodb", "with care"): {
        "all_or_nothing": True, "schema_change_undone": True, "wrong_values": True,
        "broken_rules": False, "no_anomaly": False, "survives_kill": True,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=NAMES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with here(request.param) as found:
        yield found


@pytest.mark.parametrize("check", CHECKS)
def test_each_check_sees_what_it_must(place: Place, check: str) -> None:
    for setup in place.engine.setups:
        expected = PASSES[place.engine.name, setup].get(check)
        if expected is None:
            continue
        seen = CHECKS[check](place, setup)
        assert (seen.check, seen.engine, seen.setup) == (check, place.engine.name, setup)
        assert seen.passed is expected, f"{setup}: {seen.saw}"
        assert seen.ran.endswith("."), seen.ran
        assert seen.saw.endswith("."), seen.saw


def test_a_set_up_names_the_checks_that_come_out_differently(place: Place) -> None:
    for name, setup in place.engine.setups.items():
        expected = PASSES[place.engine.name, name]
        timed = {"four_writers"} if (place.engine.name, name) == ("sqlite", "with care") else set()
        checks = set() if name == AS_INSTALLED else set(expected) | timed
        assert setup.checks == checks, name


def test_why_something_is_refused_is_known(place: Place) -> None:
    seen = CHECKS["broken_rules"](place, AS_INSTALLED)
    words = seen.facts["refused"].get("the same message twice")
    assert words is not None
    assert words.startswith("rule: ")
    if place.engine.name in {"postgres", "mysql"}:
        found = CHECKS["wrong_values"](place, AS_INSTALLED).facts["refused"]
        assert {said.partition(":")[0] for said in found.values()} == {"value"}


def test_a_session_ends_what_it_left_open(place: Place) -> None:
    careful = "with care" if place.engine.name == "mongodb" else AS_INSTALLED
    refill(place, careful)
    with opened(place.engine, careful) as session:
        session.begin()
        session.insert("messages", event(1))
    with opened(place.engine, careful) as session:
        assert session.count("messages") == 0


def test_nothing_of_ours_stays_on_a_server(place: Place) -> None:
    with prepared(place, AS_INSTALLED) as session:
        assert session.count("instances") == 6
    assert _of_ours(place) != []
    place.engine.clear()
    assert _of_ours(place) == []


def _of_ours(place: Place) -> list[str]:
    engine: Any = place.engine
    if engine.library:
        return [str(path) for path in engine.path.parent.glob(f"{engine.path.name}*")]
    if engine.name == "postgres":
        with engine._connection() as connection:
            return [row[0] for row in connection.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname = 'comparison'"
            )]  # fmt: skip
    if engine.name == "mysql":
        with engine._connection(None) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW DATABASES LIKE 'pglab%'")
            return [row[0] for row in cursor.fetchall()]
    with engine._client() as client:
        return [name for name in client.list_database_names() if name.startswith("pglab")]


def test_times_are_ratios_to_the_quickest() -> None:
    with here("sqlite") as sqlite, here("postgres") as postgres:
        seen = measure([sqlite, postgres], rounds=1)
    for name in OPERATIONS:
        assert min(each.facts["ratios"][name] for each in seen) == 1.0
    assert [each.passed for each in seen] == [None, None]


@pytest.mark.parametrize(
    ("name", "setup"),
    [("postgres", AS_INSTALLED), ("mysql", AS_INSTALLED),
     ("sqlite", AS_INSTALLED), ("sqlite", "with care")],
)  # fmt: skip
def test_four_writers_all_get_through(name: str, setup: str) -> None:
    with here(name) as found:
        seen = measure_writers(found, setup)
    assert seen.setup == setup
    assert seen.facts["stored"] == seen.facts["wanted"]
    assert seen.facts["refused"] == 0 or name == "sqlite"


@pytest.mark.parametrize("name", ["postgres", "mysql", "sqlite"])
def test_who_is_patient_outwaits_a_short_transaction(name: str) -> None:
    held_s = 1.5  # longer than an impatient session waits, and shorter than a patient one does
    with here(name) as found:
        refill(found, AS_INSTALLED)

        def wait(*, patient: bool) -> None:
            # SQLite's connections stay in the thread that made them.
            with contextlib.closing(found.engine.connect(AS_INSTALLED, patient=patient)) as session:
                session.add(BUSY)

        with opened(found.engine, AS_INSTALLED) as holder, ThreadPoolExecutor(1) as pool:
            before = holder.values("instances", "received", {"name": BUSY})[0]
            holder.begin()
            holder.add(BUSY)
            with pytest.raises(Refused) as refused:
                wait(patient=False)
            assert refused.value.why == "wait"
            waiting = pool.submit(wait, patient=True)
            time.sleep(held_s)
            holder.commit()
            assert waiting.result() is None
            assert holder.values("instances", "received", {"name": BUSY})[0] == before + 2


def test_a_server_of_ones_own_is_neither_killed_nor_littered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with here("mongodb") as ours:
        address = ours.engine.address()
        url = f"mongodb://{address['host']}:{address['port']}/?directConnection=true"
        monkeypatch.setenv(MONGODB_URL, url)
        with find("mongodb") as place:
            assert place.how == "the server of PGLAB_MONGODB_URL"
            assert CHECKS["all_or_nothing"](place, "with care").passed
            seen = CHECKS["survives_kill"](place, "with care")
            assert (seen.passed, seen.saw) == (None, "Not run: the server is not ours to kill.")
            assert _of_ours(place) != []
        assert _of_ours(ours) == []


# Kills


def test_confirmed_means_kept_and_off_gives_that_up() -> None:
    with scratch_postgres() as server:
        waiting = kill_while_writing(server, "on", seconds=0.3)
        hurried = [kill_while_writing(server, "off", seconds=0.3) for _ in range(3)]
    assert all(kill.only_the_last for kill in [waiting, *hurried])
    assert waiting.confirmed > 0
    assert waiting.lost == 0
    assert sum(each.lost for each in hurried) > 0


def test_the_levels_show_what_the_manual_says() -> None:
    with scratch_postgres() as server:
        found = what_each_level_shows(lambda: server.connect(autocommit=True))
        with server.connect() as connection:
            left = connection.execute("SELECT to_regclass('pglab_levels')").fetchone()
    assert [row["level"] for row in found] == list(LEVELS)
    shown = [list(row.values())[1:] for row in found]
    never, does, no = "cannot happen", "happens", "refused: 40001"
    assert shown == [[never, does, does, does]] * 2 + [
        [never, never, no, does], [never, never, no, no],
    ]  # fmt: skip
    assert left == (None,)


_MAKER = """
import sys, time
from pglab.comparison.places import find
with find(sys.argv[1]) as place:
    print(place.power._folder.path, place.power._child.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("name", ["mysql", "mongodb"])
def test_a_server_ends_with_a_maker_that_is_killed(name: str) -> None:
    with here(name) as found:
        assert found.power is not None
    maker = subprocess.Popen(
        [sys.executable, "-P", "-c", _MAKER, name], stdout=subprocess.PIPE, text=True
    )
    assert maker.stdout is not None
    with maker.stdout:
        folder, pid = maker.stdout.readline().split()
        maker.send_signal(signal.SIGKILL)
        maker.wait()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() or Path(folder).exists():
        assert time.monotonic() < deadline, f"{pid} or {folder} is still there"
        time.sleep(0.05)


def test_the_comparison_leaves_no_process_behind() -> None:
    before = _ours()
    with here("sqlite") as place:
        CHECKS["survives_kill"](place, AS_INSTALLED)
    assert _ours() <= before


def _ours() -> set[int]:
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            said = (process / "cmdline").read_bytes()
            status = (process / "status").read_text()
        except OSError:
            continue
        if b"pglab.comparison.writer" in said and f"PPid:\t{os.getpid()}" in status:
            found.add(int(process.name))
    return found


def test_an_address_that_cannot_be_read_is_named_without_its_password() -> None:
    pytest.importorskip("pymongo", reason="lacks PyMongo")
    from pglab.comparison.mongodb import MongodbEngine
    from pglab.errors import ConfigError

    with pytest.raises(ConfigError, match="PGLAB_MONGODB_URL cannot be read") as caught:
        MongodbEngine({"host": "mongodb://ana:s3cr@t:x@host:port"})
    assert "s3cr" not in str(caught.value)
