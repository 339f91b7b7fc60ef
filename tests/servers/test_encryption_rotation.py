"""A rotation ends with every row under the new key, whoever writes or dies meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest
from encryption_support import (
    AFTER,
    BEFORE,
    NEW,
    OLD,
    ONLY_NEW,
    THIRD,
    credentials,
    fill,
)

from pglab.encryption import (
    Context,
    EncryptedColumn,
    Envelope,
    KeyMaterialError,
    LocalKeys,
    RotationReport,
    TamperedError,
    UnknownKeyError,
    UnwrapError,
    decrypt,
    encrypt,
    load_session,
    remaining,
    rotate,
    store_session,
)

pytestmark = pytest.mark.server

Connection = psycopg.Connection[Any]
COUNT = 40


class Stepping(LocalKeys):
    """Keys that call back when the rotation has locked a row and not yet written it."""

    def __init__(self, on_unwrap: Callable[[], None]) -> None:
        super().__init__({"new": NEW, "old": OLD})
        self.on_unwrap = on_unwrap

    def unwrap(self, key_id: str, wrapped_key: bytes, aad: bytes) -> bytes:
        self.on_unwrap()
        return super().unwrap(key_id, wrapped_key, aad)


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    with psycopg.connect(database) as connection:
        fill(connection, COUNT)
        yield connection


def rows(connection: Connection) -> dict[int, tuple[bytes, str, Any]]:
    found = connection.execute(
        "SELECT instance_id, credentials, key_id, updated_at FROM sessions"
    ).fetchall()
    connection.rollback()
    return {instance.int: (blob, key_id, updated) for instance, blob, key_id, updated in found}


def assert_all_open(connection: Connection, keys: LocalKeys = ONLY_NEW, count: int = COUNT) -> None:
    assert connection.execute("SELECT count(*) FROM sessions").fetchone() == (count,)
    for number in range(1, count + 1):
        assert load_session(connection, UUID(int=number), keys) == credentials(number)
    connection.rollback()


def wait_until_blocked(url: str, pid: int, or_else: Callable[[], bool]) -> None:
    """Wait until a session waits for a lock, or something else has happened."""
    with psycopg.connect(url, autocommit=True) as observer:
        while not or_else():
            row = observer.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [pid]).fetchone()
            if row == (True,):
                return
            time.sleep(0.01)


@pytest.mark.parametrize("rewrap_only", [True, False])
@pytest.mark.parametrize("batch", [1, 7, 40, 1000])
def test_every_row_comes_under_the_new_key(
    connection: Connection, batch: int, rewrap_only: bool
) -> None:
    before = rows(connection)
    assert remaining(connection, "old") == COUNT
    connection.rollback()
    seen: list[RotationReport] = []
    report = rotate(connection, AFTER, batch=batch, on_batch=seen.append, rewrap_only=rewrap_only)
    assert (report.key_id, report.rotated, report.failures, report.remaining) == (
        "new",
        COUNT,
        (),
        0,
    )
    assert report.batches == len(seen) == -(-COUNT // batch)
    assert [step.rotated for step in seen] == [
        min(COUNT, batch * step) for step in range(1, len(seen) + 1)
    ]
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert_all_open(connection)
    assert (remaining(connection, "old"), remaining(connection, "new")) == (0, COUNT)
    after = rows(connection)
    for number, (blob, key_id, updated) in after.items():
        assert key_id == "new"
        assert updated == before[number][2], "a rotation is no change of the credentials"
        same = Envelope.parse(blob).sealed == Envelope.parse(before[number][0]).sealed
        assert same is rewrap_only
    assert rotate(connection, AFTER).rotated == 0
    assert rows(connection) == after


@pytest.mark.parametrize("level", list(psycopg.IsolationLevel))
@pytest.mark.parametrize("autocommit", [True, False])
def test_whichever_way_the_connection_is_set(
    database: str, connection: Connection, level: psycopg.IsolationLevel, autocommit: bool
) -> None:
    connection.commit()
    with psycopg.connect(database, autocommit=autocommit) as other:
        other.isolation_level = level
        assert rotate(other, AFTER, batch=9).rotated == COUNT
    assert_all_open(connection)


def test_a_transaction_that_is_open_and_an_empty_batch_are_refused(connection: Connection) -> None:
    connection.execute("SELECT 1")
    with pytest.raises(ValueError, match="a transaction is open"):
        rotate(connection, AFTER)
    connection.rollback()
    with pytest.raises(ValueError, match="batch is 0"):
        rotate(connection, AFTER, batch=0)
    assert remaining(connection, "old") == COUNT


def test_it_refuses_when_an_old_key_is_missing(connection: Connection) -> None:
    store_session(connection, UUID(int=1), credentials(1), ONLY_NEW)
    before = rows(connection)
    keys = LocalKeys({"third": THIRD, "new": NEW})
    with pytest.raises(UnknownKeyError, match=rf"'old' \({COUNT - 1} rows\)"):
        rotate(connection, keys)
    assert rows(connection) == before
    report = rotate(connection, keys, leave_unknown=True)
    assert report.rotated == 1
    assert len(report.failures) == report.remaining == COUNT - 1
    assert {type(failure.error) for failure in report.failures} == {UnknownKeyError}
    assert_all_open(connection, LocalKeys({"third": THIRD, "old": OLD}))


def damage(connection: Connection, number: int, blob: bytes) -> None:
    connection.execute(
        "UPDATE sessions SET credentials = %s WHERE instance_id = %s", [blob, UUID(int=number)]
    )


@pytest.mark.parametrize("rewrap_only", [True, False])
def test_rows_that_do_not_open_are_reported_and_left(
    connection: Connection, rewrap_only: bool
) -> None:
    blobs = {number: blob for number, (blob, _, _) in rows(connection).items()}
    damage(connection, 3, blobs[4])
    damage(connection, 5, blobs[5].replace(b"old", b"odd"))
    damage(connection, 6, b"rubbish")
    damage(connection, 7, blobs[7][:-1] + bytes([blobs[7][-1] ^ 1]))
    damage(connection, 8, blobs[8][:30])
    connection.commit()
    before = rows(connection)
    report = rotate(connection, AFTER, batch=2, rewrap_only=rewrap_only)
    broken = {failure.key.int: type(failure.error).__name__ for failure in report.failures}
    expected = {3: "UnwrapError", 5: "UnknownKeyError", 6: "MalformedError", 8: "MalformedError"}
    # Wrapping anew does not read the content: what was damaged stays so, and as authentic.
    assert broken == (expected if rewrap_only else expected | {7: "TamperedError"})
    assert report.remaining == len(broken)
    assert report.rotated == COUNT - len(broken)
    after = rows(connection)
    assert {number: after[number] for number in broken} == {
        number: before[number] for number in broken
    }
    for number in set(after) - set(broken) - {7}:
        assert load_session(connection, UUID(int=number), ONLY_NEW) == credentials(number)
    with pytest.raises(TamperedError, match="its key opens, its content"):
        load_session(connection, UUID(int=7), AFTER)
    connection.rollback()
    assert all(failure.error.__traceback__ is None for failure in report.failures)
    again = rotate(connection, AFTER, batch=2, rewrap_only=rewrap_only)
    assert (again.rotated, len(again.failures)) == (0, len(broken))


def test_a_wrong_key_under_the_old_id_loses_nothing(connection: Connection) -> None:
    before = rows(connection)
    report = rotate(connection, LocalKeys({"new": NEW, "old": THIRD}))
    assert (report.rotated, report.remaining) == (0, COUNT)
    assert {type(failure.error) for failure in report.failures} == {UnwrapError}
    assert rows(connection) == before


def test_the_ciphertext_counts_and_not_only_the_column_beside_it(connection: Connection) -> None:
    connection.execute("UPDATE sessions SET key_id = 'new' WHERE instance_id = %s", [UUID(int=1)])
    connection.execute("UPDATE sessions SET key_id = NULL WHERE instance_id = %s", [UUID(int=2)])
    assert remaining(connection, "old") == COUNT
    connection.commit()
    assert rotate(connection, AFTER).rotated == COUNT
    assert remaining(connection, "old") == 0
    assert {key_id for _, key_id, _ in rows(connection).values()} == {"new"}
    assert_all_open(connection)
    with pytest.raises(KeyMaterialError):
        remaining(connection, "a b")


def test_what_was_never_encrypted_is_left_alone(connection: Connection) -> None:
    connection.execute(
        "UPDATE sessions SET credentials = '{}', key_id = NULL WHERE instance_id = %s",
        [UUID(int=1)],
    )
    connection.commit()
    report = rotate(connection, AFTER)
    assert (report.rotated, report.failures, report.remaining) == (COUNT - 1, (), 0)
    assert rows(connection)[1][:2] == (b"{}", None)


def test_a_write_to_the_row_that_is_being_rotated_is_not_lost(
    database: str, connection: Connection
) -> None:
    """Stepped: the writer comes after the rotation has read the row and before it writes it."""
    connection.commit()
    with psycopg.connect(database, autocommit=True) as other, ThreadPoolExecutor(1) as pool:
        writes = []

        def write() -> None:
            if not writes:
                write = pool.submit(store_session, other, UUID(int=1), credentials(777), AFTER)
                writes.append(write)
                wait_until_blocked(database, other.info.backend_pid, or_else=write.done)

        report = rotate(connection, Stepping(write), batch=5)
        writes[0].result()
    assert report.rotated == COUNT
    assert load_session(connection, UUID(int=1), ONLY_NEW) == credentials(777)
    for number in range(2, COUNT + 1):
        assert load_session(connection, UUID(int=number), ONLY_NEW) == credentials(number)


@pytest.mark.parametrize("level", [None, psycopg.IsolationLevel.REPEATABLE_READ])
def test_rows_that_others_have_locked_are_skipped_and_come_last(
    database: str, connection: Connection, level: psycopg.IsolationLevel | None
) -> None:
    connection.commit()
    connection.isolation_level = level
    steps: list[RotationReport] = []
    with psycopg.connect(database) as writer, ThreadPoolExecutor(1) as pool:
        writer.execute(
            "SELECT 1 FROM sessions WHERE instance_id = ANY(%s) FOR UPDATE",
            [[UUID(int=3), UUID(int=4)]],
        )
        store_session(writer, UUID(int=3), credentials(703), BEFORE)
        rotation = pool.submit(rotate, connection, AFTER, batch=10, on_batch=steps.append)
        wait_until_blocked(database, connection.info.backend_pid, or_else=rotation.done)
        assert not rotation.done(), "it waits for the two"
        assert steps[-1].rotated == COUNT - 2, "everything else is done"
        writer.commit()
        report = rotation.result()
    assert (report.rotated, report.remaining) == (COUNT, 0)
    assert load_session(connection, UUID(int=3), ONLY_NEW) == credentials(703)


def test_a_lock_timeout_bounds_the_wait_and_the_rest_is_kept(
    database: str, connection: Connection
) -> None:
    connection.execute("SET lock_timeout = '50ms'")
    connection.commit()
    with psycopg.connect(database) as writer:
        writer.execute("SELECT 1 FROM sessions WHERE instance_id = %s FOR UPDATE", [UUID(int=3)])
        with pytest.raises(psycopg.errors.LockNotAvailable):
            rotate(connection, AFTER)
    assert remaining(connection, "old") == 1
    connection.rollback()
    assert rotate(connection, AFTER).rotated == 1
    assert_all_open(connection)


def test_writing_a_row_that_refers_to_one_does_not_wait(
    database: str, connection: Connection
) -> None:
    connection.execute(
        "CREATE TABLE devices (session uuid REFERENCES sessions (instance_id) NOT NULL)"
    )
    connection.commit()
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("SET lock_timeout = '1s'")

        def insert() -> None:
            other.execute("INSERT INTO devices VALUES (%s)", [UUID(int=1)])

        assert rotate(connection, Stepping(insert), batch=COUNT).rotated == COUNT
    assert connection.execute("SELECT count(*) FROM devices").fetchone() == (COUNT,)


def test_readers_and_writers_go_on_meanwhile(database: str, connection: Connection) -> None:
    """A reader finds every row readable throughout; each writer's last write is what stays."""
    connection.commit()
    stop = threading.Event()
    last: dict[int, int] = {}

    def read() -> int:
        reads = 0
        with psycopg.connect(database, autocommit=True) as own:
            while not stop.is_set():
                number = reads % COUNT + 1
                found = load_session(own, UUID(int=number), AFTER)
                assert found is not None
                assert found["me"].endswith(f"{number:04}") or number % 2 == 0
                reads += 1
        return reads

    def write(keys: LocalKeys, numbers: range) -> int:
        writes = 0
        with psycopg.connect(database, autocommit=True) as own:
            while not stop.is_set():
                number = numbers[writes % len(numbers)]
                value = 1000 + writes
                store_session(own, UUID(int=number), credentials(value), keys)
                last[number] = value
                writes += 1
        return writes

    with ThreadPoolExecutor(3) as pool:
        others = [
            pool.submit(read),
            pool.submit(write, AFTER, range(2, 21, 2)),
            # One who has not heard of the new key yet.
            pool.submit(write, BEFORE, range(22, COUNT + 1, 2)),
        ]
        try:
            reports = [rotate(connection, AFTER, batch=3, pause_s=0.002) for _ in range(5)]
        finally:
            stop.set()
        assert all(other.result() > COUNT for other in others)
    assert reports[0].rotated >= COUNT // 2
    assert all(report.failures == () for report in reports)
    final = rotate(connection, AFTER)
    assert (final.remaining, remaining(connection, "old")) == (0, 0)
    assert set(last) == set(range(2, COUNT + 1, 2))
    for number in range(1, COUNT + 1):
        expected = credentials(last.get(number, number))
        assert load_session(connection, UUID(int=number), ONLY_NEW) == expected


def test_any_column_with_a_primary_key(database: str) -> None:
    spec = EncryptedColumn("Phone Book", "the number", "key", 'na"me')
    names = ["ñandú", "a", "B", "", "%s", "z'z"]
    with psycopg.connect(database) as connection:
        connection.execute(
            'CREATE TABLE "Phone Book" ("na""me" text PRIMARY KEY, "the number" bytea, key text)'
        )
        connection.cursor().executemany(
            'INSERT INTO "Phone Book" VALUES (%s, %s, %s)',
            [
                (name, encrypt(name.encode(), keys=BEFORE, context=spec.place(name)), "old")
                for name in names
            ],
        )
        connection.execute("""INSERT INTO "Phone Book" VALUES ('nothing', NULL, 'old')""")
        connection.commit()
        report = rotate(connection, AFTER, column=spec, batch=2)
        assert (report.rotated, report.remaining, report.failures) == (len(names), 0, ())
        for name, blob in connection.execute(
            'SELECT "na""me", "the number" FROM "Phone Book" WHERE "the number" IS NOT NULL'
        ):
            place = Context("Phone Book", "the number", name)
            assert decrypt(blob, keys=ONLY_NEW, context=place) == name.encode()
