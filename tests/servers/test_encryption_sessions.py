"""Credentials are stored as ciphertext, come back as they were, and open in their own row only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from encryption_support import AFTER, BEFORE, NEW, ONLY_NEW, create, credentials
from psycopg.rows import dict_row

from pglab.encryption import (
    BlindIndex,
    Context,
    EncryptionError,
    LocalKeys,
    MalformedError,
    UnknownKeyError,
    UnwrapError,
    decrypt,
    digits,
    encrypt,
    encrypt_json,
    generate_key,
    load_session,
    session_context,
    store_session,
)

pytestmark = pytest.mark.server

Connection = psycopg.Connection[Any]
ONE, TWO = UUID(int=1), UUID(int=2)


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    with psycopg.connect(database) as connection:
        create(connection, [1, 2])
        yield connection


def stored(connection: Connection, instance: UUID = ONE) -> tuple[bytes, str]:
    row = connection.execute(
        "SELECT credentials, key_id FROM sessions WHERE instance_id = %s", [instance]
    ).fetchone()
    assert row
    return row[0], row[1]


def test_stored_and_loaded(connection: Connection) -> None:
    assert load_session(connection, ONE, BEFORE) is None
    store_session(connection, ONE, credentials(1), BEFORE)
    blob, key_id = stored(connection)
    assert key_id == "old"
    assert blob.startswith(b"PGE\x01")
    assert b"5198765" not in blob
    assert load_session(connection, ONE, BEFORE) == credentials(1)
    assert load_session(connection, str(ONE).upper().replace("-", ""), BEFORE) == credentials(1)
    store_session(connection, str(ONE), {"ñ": [1, None]}, AFTER)
    assert stored(connection)[1] == "new"
    assert load_session(connection, ONE, ONLY_NEW) == {"ñ": [1, None]}


def test_any_row_factory_will_do(database: str, connection: Connection) -> None:
    connection.commit()
    with psycopg.connect(database, row_factory=dict_row, autocommit=True) as other:
        store_session(other, ONE, credentials(1), BEFORE)
        assert load_session(other, ONE, BEFORE) == credentials(1)


def test_it_commits_unless_a_transaction_is_open(database: str, connection: Connection) -> None:
    connection.commit()
    store_session(connection, ONE, credentials(1), BEFORE)
    with psycopg.connect(database) as other:
        assert load_session(other, ONE, BEFORE) == credentials(1)
    connection.execute("SELECT 1")
    store_session(connection, ONE, credentials(2), BEFORE)
    connection.rollback()
    assert load_session(connection, ONE, BEFORE) == credentials(1)


def test_swapped_rows_are_noticed(connection: Connection) -> None:
    for instance, number in ((ONE, 1), (TWO, 2)):
        store_session(connection, instance, credentials(number), BEFORE)
    connection.execute(
        "UPDATE sessions a SET credentials = b.credentials FROM sessions b"
        " WHERE a.instance_id <> b.instance_id"
    )
    for instance in (ONE, TWO):
        with pytest.raises(UnwrapError, match="belongs to another row"):
            load_session(connection, instance, BEFORE)


def test_every_bit_that_is_flipped_in_the_table_is_noticed(connection: Connection) -> None:
    store_session(connection, ONE, {"me": "x"}, BEFORE)
    blob, _ = stored(connection)
    for bit in range(8 * len(blob)):
        connection.execute(
            "UPDATE sessions SET credentials ="
            " set_bit(%(blob)s, %(bit)s, 1 - get_bit(%(blob)s, %(bit)s))",
            {"blob": blob, "bit": bit},
        )
        with pytest.raises(EncryptionError) as caught:
            load_session(connection, ONE, BEFORE)
        assert type(caught.value) is not EncryptionError


def test_wrong_and_missing_keys(connection: Connection) -> None:
    store_session(connection, ONE, credentials(1), BEFORE)
    with pytest.raises(UnknownKeyError, match="'old' is not among"):
        load_session(connection, ONE, ONLY_NEW)
    with pytest.raises(UnwrapError):
        load_session(connection, ONE, LocalKeys({"old": NEW}))


def test_what_was_never_encrypted_is_named(connection: Connection) -> None:
    connection.execute("INSERT INTO sessions (instance_id, credentials) VALUES (%s, '{}')", [ONE])
    with pytest.raises(MalformedError, match="do not begin with b'PGE'"):
        load_session(connection, ONE, BEFORE)
    blob = encrypt_json([1], keys=BEFORE, context=session_context(ONE))
    connection.execute("UPDATE sessions SET credentials = %s", [blob])
    with pytest.raises(MalformedError, match="a JSON list, not an object"):
        load_session(connection, ONE, BEFORE)


def test_what_the_server_says_holds_no_plaintext(connection: Connection) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation) as caught:
        store_session(connection, UUID(int=99), credentials(1), BEFORE)
    assert "5198765" not in f"{caught.value} {caught.value.diag.message_detail}"
    connection.rollback()
    with pytest.raises(ValueError, match="UUID"):
        store_session(connection, "x", credentials(1), BEFORE)


def test_a_blind_index_finds_equal_values_by_an_index(connection: Connection) -> None:
    index = BlindIndex(generate_key(), "people.phone", normalise=digits)
    connection.execute(
        'CREATE TABLE "People" (id int PRIMARY KEY, phone bytea, phone_index bytea);'
        'CREATE INDEX ON "People" (phone_index)'
    )
    phones = [f"+51 987 654 {number % 500:03}" for number in range(1000)]
    connection.cursor().executemany(
        'INSERT INTO "People" VALUES (%s, %s, %s)',
        [
            (
                number,
                encrypt(phone.encode(), keys=BEFORE, context=Context("People", "phone", number)),
                index.of(phone),
            )
            for number, phone in enumerate(phones)
        ],
    )
    found = index.search(
        connection,
        "51-987654007",
        table="People",
        index_column="phone_index",
        columns=["id", "phone"],
    )
    assert {number for number, _ in found} == {7, 507}
    for number, blob in found:
        phone = decrypt(blob, keys=BEFORE, context=Context("People", "phone", number))
        assert phone == b"+51 987 654 007"
    by_schema = index.search(
        connection, "1", table="public.People", index_column="phone_index", columns=["id"]
    )
    assert by_schema == []
