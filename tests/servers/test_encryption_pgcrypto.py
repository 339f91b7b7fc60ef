"""The statements for pgcrypto run as written, on a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints
from uuid import UUID

import psycopg
import pytest
from encryption_support import create, credentials

from pglab.encryption import EncryptionError, pgcrypto

pytestmark = pytest.mark.server

Connection = psycopg.Connection[Any]
KEY = "a passphrase of the test"


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    with psycopg.connect(database) as connection:
        create(connection, [1])
        connection.execute(pgcrypto.CREATE_EXTENSION)
        yield connection


def one(connection: Connection, query: Any, **parameters: Any) -> Any:
    row = connection.execute(query, parameters).fetchone()
    assert row
    return row[0]


def test_text_and_bytes_come_back(connection: Connection) -> None:
    text = one(connection, pgcrypto.ENCRYPT, plaintext="señal", key=KEY)
    assert one(connection, pgcrypto.DECRYPT, ciphertext=text, key=KEY) == "señal"
    octets = one(connection, pgcrypto.ENCRYPT_BYTES, plaintext=b"\x00\xff", key=KEY)
    assert one(connection, pgcrypto.DECRYPT_BYTES, ciphertext=octets, key=KEY) == b"\x00\xff"


def test_a_wrong_key_fails(connection: Connection) -> None:
    text = one(connection, pgcrypto.ENCRYPT, plaintext="x", key=KEY)
    with pytest.raises(
        psycopg.errors.ExternalRoutineInvocationException, match="Wrong key or corrupt data"
    ):
        one(connection, pgcrypto.DECRYPT, ciphertext=text, key=KEY + "!")


def test_a_session(connection: Connection) -> None:
    given = {
        "instance_id": UUID(int=1),
        "credentials": json.dumps(credentials(1)),
        "key": KEY,
    }
    for _ in range(2):
        connection.execute(pgcrypto.STORE_SESSION, given)
    assert one(connection, pgcrypto.LOAD_SESSION, **given) == credentials(1)


CIPHERS, COMPRESSIONS = (
    get_args(get_args(get_type_hints(pgcrypto.options)[name])[0]) for name in ("cipher", "compress")
)


@pytest.mark.parametrize("cipher", [None, *CIPHERS])
@pytest.mark.parametrize("compress", [None, *COMPRESSIONS])
@pytest.mark.parametrize("mode", [None, 0, 1, 3])
def test_the_server_takes_every_option(
    connection: Connection, cipher: Any, compress: Any, mode: Any
) -> None:
    count = 1024 if mode == 3 else None
    options = pgcrypto.options(cipher=cipher, compress=compress, s2k_mode=mode, s2k_count=count)
    blob = one(
        connection,
        pgcrypto.ENCRYPT_WITH_OPTIONS,
        plaintext="x" * 1000,
        key=KEY,
        options=options,
    )
    assert one(connection, pgcrypto.DECRYPT, ciphertext=blob, key=KEY) == "x" * 1000
    assert (len(blob) < 500) is (compress in {"zip", "zlib"})


def test_the_bounds_of_the_count_are_the_servers(connection: Connection) -> None:
    for count, accepted in ((1023, False), (1024, True), (65_011_712, True), (65_011_713, False)):
        given = {"plaintext": "x", "key": KEY, "options": f"s2k-count={count}"}
        if accepted:
            assert pgcrypto.options(s2k_count=count) == given["options"]
            one(connection, pgcrypto.ENCRYPT_WITH_OPTIONS, **given)
            continue
        with pytest.raises(EncryptionError, match=f"s2k_count is {count}"):
            pgcrypto.options(s2k_count=count)
        with pytest.raises(psycopg.Error), connection.transaction():
            one(connection, pgcrypto.ENCRYPT_WITH_OPTIONS, **given)


@pytest.mark.parametrize("option", [{"cipher": "rot13"}, {"compress": "gzip"}, {"s2k_mode": 2}])
def test_an_option_that_the_server_lacks_is_refused(option: Any) -> None:
    with pytest.raises(EncryptionError, match=rf"{next(iter(option))} is .* possible"):
        pgcrypto.options(**option)


def test_the_defaults_are_those_that_the_module_states(connection: Connection) -> None:
    """Read from the OpenPGP packet (RFC 4880, 5.3 and 3.7.1.3)."""
    counts = set()
    for _ in range(20):
        blob = one(connection, pgcrypto.ENCRYPT, plaintext="x", key=KEY)
        # After tag and length: version 4, cipher 7 (AES-128), S2K mode 3, digest 2 (SHA-1), 8
        # octets of salt, and the count in one octet.
        assert blob[2:6] == bytes([4, 7, 3, 2])
        coded = blob[14]
        counts.add((16 + (coded & 15)) << ((coded >> 4) + 6))
    assert min(counts) >= 65_536
    assert max(counts) <= 253_952
    assert len(counts) > 1
