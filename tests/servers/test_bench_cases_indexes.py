"""The cases about indexes, JSONB, the inbox and writes, on a real server and a small table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from typing import Any

import psycopg
import pytest
from psycopg.rows import tuple_row

from pglab.bench.case import Case, Variant
from pglab.bench.cases import find, inbox, indexes, jsonb, writes
from pglab.bench.ground import Ground, Place
from pglab.bench.operations import Query
from pglab.bench.options import Options
from pglab.bench.results import CaseResult, Result
from pglab.bench.run_servers import Servers
from pglab.bench.runner import run
from pglab.bench.size_run import parameters_of
from pglab.errors import PlanMismatchError

pytestmark = pytest.mark.server

SIZE = 2_000  # the planner prefers every index by then, as it does in a large table
OPTIONS = Options(rounds=2, round_seconds=0.005, warm_up_seconds=0.05)
CASES = {case.name: case for group in (indexes, jsonb, inbox, writes) for case in group.CASES}
READING = [case for case in CASES.values() if not case.writes]
# Messages of one second stand in any order, so only what the answer is sorted by is the same.
COLUMNS_OF_THE_ANSWER = {"newest-messages": ("sent_at",)}


def measured(case: Case) -> CaseResult:
    """Return what a short run of a case finds."""
    result = run(case, sizes=[SIZE], options=OPTIONS, progress=False)
    assert isinstance(result, Result)
    assert result.complete
    return result.case()


@cache
def found(name: str) -> CaseResult:
    """Return what a short run of a shipped case finds, the same for all tests."""
    return measured(CASES[name])


@pytest.fixture(scope="module")
def ground(lab_home: Any) -> Iterator[Ground]:
    servers = Servers()
    try:
        with Ground.opened(servers, SIZE, OPTIONS.seed, twins=6, progress=False) as ground:
            yield ground
    finally:
        servers.close()


@pytest.fixture
def places(ground: Ground) -> Iterator[Any]:
    """Return a function that makes a case's twins, and gives each variant with its place."""
    with ExitStack() as stack:

        def make(case: Case) -> list[tuple[Variant, Place]]:
            return [
                (variant, stack.enter_context(ground.place(case, variant)))
                for variant in case.variants
            ]

        yield make


def rows(connection: psycopg.Connection[Any], query: str, given: Any = None) -> list[Any]:
    return connection.cursor(row_factory=tuple_row).execute(query.encode(), given).fetchall()


def one(connection: psycopg.Connection[Any], query: str) -> Any:
    return rows(connection, query)[0][0]


@pytest.mark.parametrize("name", CASES)
def test_a_case_runs_and_every_plan_is_the_one_claimed(name: str) -> None:
    case = CASES[name]
    assert found(name).variants == tuple(variant.name for variant in case.variants)
    for variant, result in zip(case.variants, found(name).at(SIZE).variants, strict=True):
        assert len(result.rounds) == OPTIONS.rounds
        assert result.plan is not None
        assert result.plan.claim == ("" if variant.claim is None else str(variant.claim))
        assert result.plan.buffers > 0
        assert all(each.rows >= each.operations for each in result.rounds), "something is found"


@pytest.mark.parametrize("case", READING, ids=lambda case: case.name)
def test_all_variants_give_the_same_answer(case: Case, places: Any) -> None:
    made = places(case)
    drawn = parameters_of(case, made[0][1], OPTIONS)
    for parameters in list(drawn)[:8] or [None]:
        answers = [answer(case, variant, place, parameters) for variant, place in made]
        assert answers[0], f"nothing is found with {parameters}"
        for (variant, _), each in zip(made, answers, strict=True):
            assert each == answers[0], f"{variant.name} with {parameters}"


def answer(case: Case, variant: Variant, place: Place, parameters: Any) -> list[Any]:
    assert isinstance(variant.operation, Query)
    cursor = place.connection.cursor(row_factory=tuple_row)
    cursor.execute(variant.operation.sql.encode(), parameters or None)
    assert cursor.description is not None
    names = [column.name for column in cursor.description]
    wanted = COLUMNS_OF_THE_ANSWER.get(case.name, names)
    given = [tuple(row[names.index(name)] for name in wanted) for row in cursor.fetchall()]
    # Without ORDER BY any order is right.
    return given if "ORDER BY" in variant.operation.sql else sorted(given)


@pytest.mark.parametrize(
    ("name", "variant", "left_out"),
    [
        ("session-name", "unique", "sessions_instance_name_key"),
        ("status-rare", "partial index", "sessions_waiting"),
        ("instance-smallest", "index", "idx_messages_instance_id"),
        ("newest-messages", "index", "idx_messages_timestamp"),
        ("chat-page", "composite", "messages_chat_id_sent_at_idx"),
        ("whatsapp-id", "unique key", "messages_instance_id_whatsapp_id_key"),
        ("unread", "partial index", "messages_unread"),
        ("jsonb-containment", "jsonb_path_ops", "messages_key_path_ops"),
        ("jsonb-containment", "B-tree on the path", "messages_key_id"),
        ("inbox-long-chats", "skip scan", "messages_chat_id_sent_at_idx"),
        ("inbox-short-chats", "LATERAL", "messages_chat_id_sent_at_idx"),
        ("delete-parent", "index", "messages_chat_id_sent_at_idx"),
    ],
)
def test_without_its_index_a_variant_is_refused(name: str, variant: str, left_out: str) -> None:
    (claimed,) = (each for each in CASES[name].variants if each.name == variant)
    bare = replace(claimed, setup=tuple(sql for sql in claimed.setup if left_out not in sql))
    assert len(bare.setup) == len(claimed.setup) - 1
    with pytest.raises(PlanMismatchError, match=rf"case '{name}', variant '{variant}'"):
        measured(replace(CASES[name], variants=(bare,)))


def test_an_index_that_is_used_after_all_is_refused_where_none_is_claimed() -> None:
    index = CASES["status-common"].variants[1]
    rare = replace(index, operation=CASES["status-rare"].variants[1].operation)
    with pytest.raises(PlanMismatchError, match=r"sessions is read by .*Index"):
        measured(replace(CASES["status-common"], variants=(rare,)))


def test_the_names_are_found_among_the_shipped() -> None:
    assert {case.name for case in find(["indexes", "jsonb", "inbox", "writes"])} == set(CASES)


# --- what the cases show without a clock --------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "variant", "times_fewer"),
    [
        ("newest-messages", "index", 8),
        ("chat-page", "composite", 5),
        ("whatsapp-id", "unique key", 20),
        ("unread", "partial index", 20),
        ("jsonb-containment", "B-tree on the path", 20),
        ("jsonb-containment", "jsonb_path_ops", 10),
        ("inbox-long-chats", "skip scan", 3),
        ("delete-parent", "index", 10),
    ],
)
def test_an_index_touches_fewer_pages(name: str, variant: str, times_fewer: float) -> None:
    ratio = found(name).buffer_ratio(variant, SIZE)
    assert ratio is not None
    assert ratio > times_fewer


@pytest.mark.parametrize("name", ["session-name", "status-common", "instance-largest"])
def test_an_index_that_gains_nothing_touches_as_many_pages(name: str) -> None:
    assert found(name).buffer_ratio(CASES[name].variants[1].name, SIZE) == 1


def test_every_further_index_costs_pages_and_log() -> None:
    at = found("insert-indexes").at(SIZE)
    pages = [variant.plan.buffers for variant in at.variants if variant.plan is not None]
    log = [variant.measures["wal_bytes_per_row"] for variant in at.variants]
    assert len(pages) == len(log) == 5
    assert pages == sorted(set(pages))
    assert log == sorted(set(log))
    assert at.variants[0].measures["index_pages"] == 0 < at.variants[1].measures["index_pages"]


def test_the_redundant_index_is_written_too() -> None:
    unique, both = found("session-insert").at(SIZE).variants
    assert unique.measures["wal_bytes_per_row"] < both.measures["wal_bytes_per_row"]
    assert unique.measures["index_pages"] < both.measures["index_pages"]


def test_random_keys_write_whole_pages_to_the_log_after_a_checkpoint() -> None:
    random, rising, number = found("insert-keys").at(SIZE).variants
    after = "wal_bytes_per_row_after_checkpoint"
    assert random.measures[after] > 2 * rising.measures[after] > 2 * number.measures[after]
    assert random.measures[after] > 3 * random.measures["wal_bytes_per_row"]


@pytest.mark.parametrize("name", ["insert-indexes", "session-insert", "insert-keys"])
def test_all_variants_store_as_many_rows(name: str, places: Any) -> None:
    case = CASES[name]
    assert case.operations is not None
    stored = set()
    for variant, place in places(case):
        (table,) = {**case.twins, **variant.twins}
        count = f"SELECT count(*) FROM {table}"
        had = one(place.connection, count)
        opened = variant.operation.open(place, [])
        assert opened.before is not None
        for first in (0, case.operations):
            opened.before(first, case.operations)
            for number in range(first, first + case.operations):
                assert opened.once(number) == variant.operation.rows  # type: ignore[attr-defined]
        stored.add(one(place.connection, count) - had)
    assert stored == {2 * case.operations * case.variants[0].operation.rows}  # type: ignore[attr-defined]


def test_keys_are_of_the_version_that_they_claim(places: Any) -> None:
    rising, beyond, digits = {}, {}, {}
    for variant, place in places(CASES["insert-keys"]):
        opened = variant.operation.open(place, [])
        assert opened.before is not None
        opened.before(0, 2)
        connection = place.connection
        # ctid is the order in which they lie, and will be stored, but for a few that fill a gap.
        rising[variant.name] = one(
            connection,
            "SELECT avg((id > before)::integer) FROM (SELECT id, lag(id) OVER "
            "(ORDER BY batch, ctid) AS before FROM incoming) AS pairs",
        )
        first = "(SELECT id FROM incoming ORDER BY id LIMIT 1)"
        newest = "(SELECT id FROM messages ORDER BY id DESC LIMIT 1)"
        beyond[variant.name] = one(connection, f"SELECT {first} > {newest}")
        opened.once(0)
        digits[variant.name] = rows(
            connection,
            "SELECT DISTINCT substr(id::text, 15, 1), substr(id::text, 20, 1) FROM messages",
        )
    assert beyond == {"UUIDv4": False, "UUIDv7": True, "bigint": True}
    assert rising["UUIDv4"] < 0.6
    assert min(rising["UUIDv7"], rising["bigint"]) > 0.95
    # RFC 9562: the version is the 13th digit, and the 17th is 8, 9, a or b.
    assert digits["UUIDv4"] == [("4", "a")]
    assert digits["UUIDv7"] == [("7", "a")]


def test_the_deleted_chats_have_no_messages_and_all_others_stay(places: Any) -> None:
    case = CASES["delete-parent"]
    assert case.operations is not None
    for variant, place in places(case):
        chats, messages = (
            one(place.connection, f"SELECT count(*) FROM {table}")
            for table in ("chats", "messages")
        )
        opened = variant.operation.open(place, [])
        assert opened.before is not None
        for first in (0, case.operations):
            opened.before(first, case.operations)
            assert one(place.connection, "SELECT count(*) FROM chats") == chats + case.operations
            for number in range(first, first + case.operations):
                assert opened.once(number) == 1
        assert one(place.connection, "SELECT count(*) FROM chats") == chats
        assert one(place.connection, "SELECT count(*) FROM messages") == messages


def test_the_cascade_of_the_delete_is_real(places: Any) -> None:
    for _, place in places(CASES["delete-parent"]):
        chat = one(place.connection, "SELECT chat_id FROM messages ORDER BY id LIMIT 1")
        place.connection.execute("DELETE FROM chats WHERE id = %s", [chat])
        left = rows(place.connection, "SELECT FROM messages WHERE chat_id = %s", [chat])
        assert left == []


def test_long_chats_have_500_messages_of_one_tenant(places: Any) -> None:
    for _, place in places(CASES["inbox-long-chats"]):
        shape = rows(
            place.connection,
            "SELECT m.instance_id, m.chat_id, count(*) FROM messages AS m "
            "JOIN chats AS c ON c.id = m.chat_id AND c.instance_id = m.instance_id GROUP BY 1, 2",
        )
        assert [count for _, _, count in shape] == [500] * (SIZE // 500)
        assert len({tenant for tenant, _, _ in shape}) == 1


def test_sessions_are_as_many_as_chats_and_four_of_five_are_connected(places: Any) -> None:
    for _, place in places(CASES["status-rare"]):
        shares = dict(rows(place.connection, "SELECT status, count(*) FROM sessions GROUP BY 1"))
        assert sum(shares.values()) == one(place.connection, "SELECT count(*) FROM public.chats")
        assert 0 < shares["qr"] < shares["disconnected"] < shares["connected"]
