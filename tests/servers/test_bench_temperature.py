"""Cold caches are really cold: seen in pg_buffercache, and asked of the kernel."""

from __future__ import annotations

import os

import psutil
import pytest
from bench_case_support import BY_ID, INDEX, QUICK, SIZE, a_case, a_ground, indexed, plain

from pglab.bench import Call, Draw, Query, run
from pglab.bench.ground import Place
from pglab.bench.operations import Opened
from pglab.bench.temperature import (
    empty_kernel,
    empty_postgres,
    first_look_ups,
    relation_files,
    resident_share,
)
from pglab.errors import BenchError

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("bench")]

IN_MEMORY = {"tmpfs", "ramfs"}


@pytest.fixture(scope="module")
def ground(server_url):
    with a_ground(2_000) as ground:
        yield ground


@pytest.fixture
def place(ground):
    with ground.place(a_case(), indexed()) as place:
        yield place


def buffers(connection, schema):
    """Return how many pages of each relation of a schema PostgreSQL has in its cache."""
    connection.execute("CREATE EXTENSION IF NOT EXISTS pg_buffercache SCHEMA public")
    return dict(
        connection.execute(
            "SELECT c.relname, count(b.bufferid) FROM pg_class AS c LEFT JOIN pg_buffercache AS b"
            " ON b.relfilenode = pg_relation_filenode(c.oid) AND b.reldatabase = (SELECT oid"
            " FROM pg_database WHERE datname = current_database())"
            " WHERE c.relnamespace = %s::regnamespace GROUP BY 1",
            [schema],
        ).fetchall()
    )


def file_system(path):
    mounts = [
        each for each in psutil.disk_partitions(all=True) if path.is_relative_to(each.mountpoint)
    ]
    return max(mounts, key=lambda each: len(each.mountpoint)).fstype


def read_all(connection):
    connection.execute("SELECT sum(length(m::text)) FROM messages AS m")
    connection.execute("SELECT count(*) FROM messages WHERE id > 0")


def test_postgres_forgets_a_variants_pages_and_no_others(ground, place):
    with ground.connect(place.schema) as helper:
        read_all(helper)
        helper.execute("SELECT count(*) FROM public.messages")
        before = buffers(helper, place.schema)
        assert before["messages"] > 50
        assert before["look_up"] > 0
        others = buffers(helper, "public")["messages"]
        assert others > 0
        assert empty_postgres(helper, place.schema) == 0
        assert set(buffers(helper, place.schema).values()) == {0}
        assert buffers(helper, "public")["messages"] == others
        assert helper.execute("SELECT count(*) FROM messages").fetchone() == (2_000,)


def test_pages_that_were_changed_are_written_and_not_lost(ground, place):
    with ground.connect(place.schema) as helper:
        buffers(helper, place.schema)
        helper.execute("UPDATE messages SET body = 'kept'")
        assert empty_postgres(helper, place.schema) == 0
        found = helper.execute("SELECT count(*) FROM messages WHERE body = 'kept'").fetchone()
        assert found == (2_000,)


def test_the_kernel_forgets_the_files(ground, place):
    with ground.connect(place.schema) as helper:
        buffers(helper, place.schema)
        files = relation_files(helper, place.schema)
        assert len(files) >= 4, "table, index, TOAST table, its index"
        assert sum(file.stat().st_size for file in files) > 50 * 8_192
        helper.execute("CHECKPOINT")
        for file in files:
            file.read_bytes()
        full = resident_share(files)
        empty_kernel(files)
        share = resident_share(files)
        assert helper.execute("SELECT count(*) FROM messages").fetchone() == (2_000,)
    if file_system(files[0]) in IN_MEMORY:
        # Memory is all that it has: nothing can be forgotten, and that must be seen.
        assert share is None or share == 1.0
    else:
        assert full in {1.0, None}
        assert share in {0.0, None}


def test_files_of_a_gigabyte_and_more_have_parts(ground, place, tmp_path):
    with ground.connect(place.schema) as helper:
        (first, *_) = relation_files(helper, place.schema)
        part = first.with_name(f"{first.name}.1")
        assert not part.exists()
        part.touch()
        try:
            assert part in relation_files(helper, place.schema)
        finally:
            part.unlink()


def test_files_that_are_not_there():
    from pathlib import Path

    with pytest.raises(OSError, match="no such"):
        empty_kernel([Path("/no such file")])
    assert resident_share([]) in {0.0, None}


def test_a_result_has_all_three_measures(ground):
    result = run(a_case(), sizes=[SIZE], options=QUICK, cold=True, progress=False)
    for each in result.case().at().variants:
        assert set(each.measures) == {
            "first_warm_us",
            "first_without_postgres_cache_us",
            "first_without_both_caches_us",
        }
        assert all(value > 0 for value in each.measures.values())
        assert not [note for note in each.notes if "could not be emptied" in note]


def test_without_being_asked_nothing_is_made_cold(ground):
    result = run(a_case(), sizes=[500], options=QUICK, progress=False)
    assert [dict(each.measures) for each in result.case().at().variants] == [{}, {}]


def test_what_a_first_look_up_opens_is_closed(ground, place):
    log: list[str] = []

    def function(place: Place, parameters):
        log.append("open")
        opened = Query(BY_ID).open(place, parameters)
        return Opened(opened.once, after=lambda: log.append("close"))

    drawn = [{"id": n} for n in (1, 2, 3)]
    found = first_look_ups(ground, place, Call(function), drawn)
    assert found.warm > 0
    assert log == ["open", "close"] * 15


def test_a_system_without_fadvise_says_so(ground, place, monkeypatch):
    monkeypatch.delattr(os, "posix_fadvise")
    found = first_look_ups(ground, place, Query(BY_ID), [{"id": 1}])
    assert found.without_both is None
    assert found.without_postgres is not None
    assert "this system has no posix_fadvise" in " ".join(found.notes)
    assert set(found.measures()) == {"first_warm_us", "first_without_postgres_cache_us"}


def test_a_kernel_that_cannot_be_asked_is_not_believed(ground, place, monkeypatch):
    monkeypatch.delattr(os, "RWF_NOWAIT")
    found = first_look_ups(ground, place, Query(BY_ID), [{"id": 1}])
    assert "whether the kernel's cache was emptied cannot be seen here" in found.notes


def test_files_that_may_not_be_read(ground, place, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with ground.connect() as helper, pytest.raises(BenchError, match="cannot be read from here"):
        relation_files(helper, place.schema)


def test_a_case_that_writes_has_no_first_look_ups(ground):
    update = Query("UPDATE messages SET status = status WHERE id = %(id)s")
    case = a_case(
        plain(update, claim=None, setup=INDEX), writes=True, operations=2,
        parameters=Draw("SELECT id FROM messages"),
    )  # fmt: skip
    result = run(case, sizes=[500], options=QUICK, cold=True, progress=False)
    assert dict(result.case().at().variants[0].measures) == {}
