"""The typical queries: every variant gives the same rows, in the same order, and of one tenant."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from pglab import load, plans, queries, schema
from pglab.dataset import Dataset

pytestmark = pytest.mark.server

NOON = dt.datetime(2026, 1, 15, 12, 0, tzinfo=dt.UTC)
SECOND = dt.timedelta(seconds=1)


@pytest.fixture
def connection(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database) as connection:
        schema.create(connection)
        yield connection


class World:
    """Two tenants, and as many chats and messages as a test wants."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.ours, self.theirs = (
            connection.execute(
                "INSERT INTO instances (name) VALUES (%s) RETURNING id", [name]
            ).fetchone()[0]  # type: ignore[index]
            for name in ("ours", "theirs")
        )
        self.serial = 0

    def chat(self, instance: UUID, name: str | None = "Ana") -> int:
        self.serial += 1
        row = self.connection.execute(
            "INSERT INTO chats (instance_id, jid, kind, name) VALUES (%s, %s, 'person', %s)"
            " RETURNING id",
            [instance, f"{self.serial}@s.whatsapp.net", name],
        ).fetchone()
        assert row
        return int(row[0])

    def message(self, chat: int, sent_at: dt.datetime = NOON, **columns: Any) -> int:
        self.serial += 1
        given = {
            "whatsapp_id": f"3EB0{self.serial}",
            "from_me": False,
            "message_type": "text",
            "body": f"message {self.serial}",
            "status": "read",
            "deleted_at": None,
            **columns,
        }
        row = self.connection.execute(
            "INSERT INTO messages"
            f" (chat_id, instance_id, sent_at, key, message, {', '.join(given)})"
            f" SELECT id, instance_id, %s, '{{}}', '{{}}', {', '.join(['%s'] * len(given))}"
            " FROM chats WHERE id = %s RETURNING id",
            [sent_at, *given.values(), chat],
        ).fetchone()
        assert row
        return int(row[0])

    def inbox(self, instance: UUID, limit: int = 20) -> list[queries.InboxRow]:
        """Return what every variant says, and that it is the same."""
        answers = [
            queries.inbox(self.connection, instance, limit=limit, variant=variant)
            for variant in queries.INBOX_VARIANTS
        ]
        assert all(answer == answers[0] for answer in answers), answers
        return answers[0]


@pytest.fixture
def world(connection: psycopg.Connection[Any]) -> World:
    return World(connection)


# The inbox


def test_the_inbox_has_the_newest_message_of_every_chat_newest_chat_first(world: World) -> None:
    first, second = world.chat(world.ours, "Ana"), world.chat(world.ours, "Luis")
    world.message(second, NOON)
    newest_of_first = world.message(first, NOON + SECOND, from_me=True)
    world.message(first, NOON - SECOND)
    newest_of_second = world.message(second, NOON + 2 * SECOND)
    assert [(row.name, row.message_id, row.from_me) for row in world.inbox(world.ours)] == [
        ("Luis", newest_of_second, False),
        ("Ana", newest_of_first, True),
    ]


def test_equal_times_are_decided_by_the_id_in_every_variant(world: World) -> None:
    chats = [world.chat(world.ours, f"chat {number}") for number in range(5)]
    ids = [world.message(chat, NOON) for _ in range(3) for chat in chats]
    assert [row.message_id for row in world.inbox(world.ours)] == sorted(ids[-5:], reverse=True)
    assert [row.message_id for row in world.inbox(world.ours, 2)] == sorted(ids, reverse=True)[:2]


def test_chats_that_are_empty_or_hold_only_what_was_deleted_are_left_out(world: World) -> None:
    world.chat(world.ours, "empty")
    world.message(world.chat(world.ours, "deleted"), deleted_at=NOON)
    kept = world.chat(world.ours, "kept")
    before = world.message(kept, NOON)
    world.message(kept, NOON + SECOND, deleted_at=NOON + SECOND)
    assert [(row.name, row.message_id) for row in world.inbox(world.ours)] == [("kept", before)]


def test_null_names_and_texts_stay_null(world: World) -> None:
    world.message(world.chat(world.ours, None), body=None)
    (row,) = world.inbox(world.ours)
    assert (row.name, row.body) == (None, None)


def test_the_inbox_is_of_one_tenant(world: World) -> None:
    # Their chats lie before, between and after ours, where a skip scan leaps over them.
    chats = [world.chat(i) for i in (world.theirs, world.ours, world.theirs, world.ours)]
    chats.append(world.chat(world.theirs))
    for chat in chats:
        world.message(chat)
    assert {row.chat_id for row in world.inbox(world.ours)} == {chats[1], chats[3]}
    assert {row.chat_id for row in world.inbox(world.theirs)} == {chats[0], chats[2], chats[4]}


def test_an_inbox_without_any_message_is_empty(world: World) -> None:
    assert world.inbox(world.ours) == []
    world.message(world.chat(world.theirs))
    assert world.inbox(world.ours) == []
    assert world.inbox(UUID(int=0)) == []


def test_an_unknown_variant_is_refused_with_the_known_ones(world: World) -> None:
    with pytest.raises(ValueError, match="distinct_on, window, lateral, skip_scan"):
        queries.inbox(world.connection, world.ours, variant="cursor")  # type: ignore[arg-type]


# A chat's pages


def test_pages_hold_every_message_once_also_those_of_one_second(world: World) -> None:
    chat = world.chat(world.ours)
    ids = [world.message(chat, NOON + SECOND * (number // 4)) for number in range(11)]
    for limit in (1, 2, 3, 10, 11, 12):
        seen: list[int] = []
        before = None
        for _ in range(20):
            page = queries.chat_page(world.connection, world.ours, chat, limit=limit, before=before)
            assert len(page.messages) <= limit
            seen += [message.id for message in page.messages]
            before = page.older
            if before is None:
                break
        assert seen == ids[::-1], limit


def test_keyset_and_offset_give_the_same_pages(world: World) -> None:
    chat = world.chat(world.ours)
    for number in range(10):
        world.message(chat, NOON + SECOND * (number // 3))
    before = None
    for offset in (0, 4, 8):
        page = queries.chat_page(world.connection, world.ours, chat, limit=4, before=before)
        assert list(page.messages) == queries.chat_page_by_offset(
            world.connection, world.ours, chat, limit=4, offset=offset
        )
        before = page.older
    assert before is None


def test_a_message_that_arrives_meanwhile_shifts_offset_and_not_keyset(world: World) -> None:
    chat = world.chat(world.ours)
    ids = [world.message(chat, NOON + SECOND * number) for number in range(6)]
    first = queries.chat_page(world.connection, world.ours, chat, limit=3)
    world.message(chat, NOON + 10 * SECOND)
    second = queries.chat_page(world.connection, world.ours, chat, limit=3, before=first.older)
    by_offset = queries.chat_page_by_offset(world.connection, world.ours, chat, limit=3, offset=3)
    assert [message.id for message in second.messages] == ids[2::-1]
    assert [message.id for message in by_offset] == ids[3:0:-1]  # ids[3] was seen already


def test_a_page_of_another_tenants_chat_is_empty(world: World) -> None:
    chat = world.chat(world.theirs)
    world.message(chat)
    assert queries.chat_page(world.connection, world.ours, chat) == queries.Page((), None)
    assert queries.chat_page_by_offset(world.connection, world.ours, chat) == []


def test_an_empty_chat_has_one_empty_page(world: World) -> None:
    page = queries.chat_page(world.connection, world.ours, world.chat(world.ours))
    assert page == queries.Page((), None)


# Unread, read, and one message


def test_unread_is_what_came_in_and_was_only_delivered(world: World) -> None:
    chat, quiet, other = (world.chat(i) for i in (world.ours, world.ours, world.theirs))
    for status in ("delivery_ack", "delivery_ack", "read", "played", "pending"):
        world.message(chat, status=status)
    world.message(chat, status="delivery_ack", from_me=True)
    world.message(chat, status="delivery_ack", deleted_at=NOON)
    world.message(quiet, status="read")
    world.message(other, status="delivery_ack")
    assert queries.unread_counts(world.connection, world.ours) == {chat: 2}
    assert queries.unread_counts(world.connection, world.theirs) == {other: 1}
    assert queries.unread_counts(world.connection, UUID(int=0)) == {}


def test_mark_read_only_moves_forward_and_only_up_to_its_moment(world: World) -> None:
    chat = world.chat(world.ours)
    played = world.message(chat, status="played")
    world.message(chat, status="delivery_ack")
    sent = world.message(chat, status="server_ack", from_me=True)
    world.message(chat, NOON + SECOND, status="delivery_ack")
    assert queries.mark_read(world.connection, world.theirs, chat, NOON) == 0
    assert queries.mark_read(world.connection, world.ours, chat, NOON) == 1
    assert queries.mark_read(world.connection, world.ours, chat, NOON) == 0
    assert queries.unread_counts(world.connection, world.ours) == {chat: 1}
    status = {
        m.id: m.status for m in queries.chat_page(world.connection, world.ours, chat).messages
    }
    assert (status[played], status[sent]) == ("played", "server_ack")


def test_one_whatsapp_id_is_another_message_at_another_tenant(world: World) -> None:
    ours = world.message(world.chat(world.ours), whatsapp_id="3EB0SAME")
    theirs = world.message(world.chat(world.theirs), whatsapp_id="3EB0SAME")
    for instance, expected in ((world.ours, ours), (world.theirs, theirs)):
        found = queries.message_by_whatsapp_id(world.connection, instance, "3EB0SAME")
        assert found is not None
        assert found.id == expected
    assert queries.message_by_whatsapp_id(world.connection, world.ours, "3eb0same") is None


def test_the_connections_own_row_factory_does_not_matter(world: World) -> None:
    chat = world.chat(world.ours)
    world.message(chat, status="delivery_ack")
    expected = world.inbox(world.ours)
    world.connection.row_factory = dict_row
    assert queries.inbox(world.connection, world.ours) == expected
    assert queries.unread_counts(world.connection, world.ours) == {chat: 1}


# On believable data


@pytest.fixture
def believable(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    load.load(connection, Dataset("tiny"))
    connection.execute("ANALYZE")
    return connection


def test_the_variants_agree_for_every_tenant(believable: psycopg.Connection[Any]) -> None:
    tenants = believable.execute("SELECT id FROM instances").fetchall()
    assert len(tenants) == 6
    for (instance,) in tenants:
        for limit in (1, 20, 10_000):
            answers = [
                queries.inbox(believable, instance, limit=limit, variant=variant)
                for variant in queries.INBOX_VARIANTS
            ]
            assert answers[0]
            assert all(answer == answers[0] for answer in answers)


def test_the_plans_are_those_that_the_names_promise(believable: psycopg.Connection[Any]) -> None:
    row = believable.execute(
        "SELECT instance_id, id FROM chats WHERE id = (SELECT chat_id FROM messages"
        " GROUP BY chat_id ORDER BY count(*) DESC LIMIT 1)"
    ).fetchone()
    assert row
    # 2,000 rows are too few to need an index; the plans on 50,000 are proven with lesson 03.
    believable.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")

    def plan(name: str, **given: Any) -> plans.Plan:
        return plans.explain(believable, queries.sql(name), {"instance_id": row[0], **given})

    page = {"chat_id": row[1], "limit": 20, "before_sent_at": "infinity", "before_id": 0}
    assert plan("inbox_lateral", limit=20).uses_index("messages_chat_id_sent_at_idx")
    assert "Recursive Union" in {n.node_type for n in plan("inbox_skip_scan", limit=20).nodes()}
    keyset = plan("chat_page", **page)
    assert keyset.uses_index("messages_chat_id_sent_at_idx")
    assert "Sort" not in {node.node_type for node in keyset.nodes()}
    assert plan("message_by_whatsapp_id", whatsapp_id="3EB0").uses_index(
        "messages_instance_id_whatsapp_id_key"
    )


def test_every_sql_file_is_used_and_explained() -> None:
    from importlib import resources

    files = [f.name for f in resources.files("pglab").joinpath("sql", "queries").iterdir()]
    named = [f"inbox_{variant}" for variant in queries.INBOX_VARIANTS]
    named += ["chat_page", "chat_page_offset", "mark_read", "message_by_whatsapp_id"]
    assert sorted(files) == sorted(f"{name}.sql" for name in [*named, "unread_counts"])
    assert all(queries.sql(name).startswith("-- ") for name in named)
