"""The exercises of lesson 06."""

from __future__ import annotations

from typing import Any, Final

import psycopg

from pglab.exercises import (
    Accepts,
    Answer,
    Behaves,
    IndexOn,
    NotYet,
    Plan,
    Problem,
    Refuses,
    Rows,
    Solution,
    State,
    World,
    Wrong,
    error_of,
    expect,
)

__all__ = ["PROBLEMS"]

_ROLES: Final = "\n\nThe check has a copy of the data and roles of its own, and both go afterwards."

# 1

# What each session holds depends on the data, so that no constant passes.
_SEALED: Final = """
CREATE EXTENSION IF NOT EXISTS pgcrypto;
CREATE SCHEMA mine;
SET search_path TO mine, public;
CREATE TABLE sessions (instance_name text PRIMARY KEY, session_data bytea NOT NULL, status text);
INSERT INTO sessions
SELECT s.instance_name,
       pgp_sym_encrypt(jsonb_set(s.session_data, '{registrationId}', to_jsonb(n.n))::text,
                       'lesson-six', 'cipher-algo=aes256'),
       CASE WHEN n.n % 3 = 0 THEN 'disconnected' ELSE 'connected' END
FROM seed.sessions AS s,
     LATERAL (SELECT count(*) + length(s.instance_name) AS n
              FROM public.messages AS m JOIN public.instances AS i ON i.id = m.instance_id
              WHERE i.name = s.instance_name) AS n;
"""

_DECRYPT = Problem(
    id="encryption.1",
    title="Read what pgcrypto wrote",
    prompt="""\
A table `sessions (instance_name text, session_data bytea, status text)` holds credentials that were
encrypted with `pgp_sym_encrypt` and the key `lesson-six`; decrypted, they are JSON. Show the
`instance_name` and the `registration_id` (the key `registrationId` of the JSON, as `integer`) of
each session that is `connected`.""",
    answer="query",
    starter="-- your query here",
    setup=_SEALED,
    checks=(Rows(),),
    solutions=(
        Solution(
            sql="""\
SELECT instance_name,
       (pgp_sym_decrypt(session_data, 'lesson-six')::jsonb ->> 'registrationId')::integer
           AS registration_id
FROM sessions
WHERE status = 'connected'""",
            why="`pgp_sym_decrypt` takes `bytea` and returns `text`. The text is JSON only after "
            "the cast, and what `->>` takes out of it is text again. In a program the key would be "
            "a parameter; it would reach the server all the same.",
        ),
        Solution(
            sql="""\
SELECT s.instance_name, c."registrationId" AS registration_id
FROM sessions AS s,
     LATERAL jsonb_to_record(pgp_sym_decrypt(s.session_data, 'lesson-six')::jsonb)
         AS c("registrationId" integer)
WHERE s.status = 'connected'""",
            why="`jsonb_to_record` makes columns of several keys, and decrypts each row once.",
        ),
    ),
    wrong=(
        Wrong(
            sql="""
SELECT instance_name,
       (pgp_sym_decrypt(session_data::jsonb::bytea, 'lesson-six')::jsonb
        ->> 'registrationId')::integer AS registration_id
FROM sessions WHERE status = 'connected'""",
            says="42846",
        ),
        Wrong(
            sql="""
SELECT instance_name,
       (pgp_sym_decrypt(session_data, 'lesson-6')::jsonb ->> 'registrationId')::integer
           AS registration_id
FROM sessions WHERE status = 'connected'""",
            says="39000",
        ),
        Wrong(
            sql="""
SELECT instance_name,
       (pgp_sym_decrypt(session_data, 'lesson-six') ->> 'registrationId')::integer
           AS registration_id
FROM sessions WHERE status = 'connected'""",
            says="42883",
        ),
        Wrong(
            sql="""
SELECT instance_name,
       pgp_sym_decrypt(session_data, 'lesson-six')::jsonb ->> 'registrationId' AS registration_id
FROM sessions WHERE status = 'connected'""",
            says="has the type text; integer is asked for",
        ),
        Wrong(
            sql="""
SELECT instance_name,
       (pgp_sym_decrypt(session_data, 'lesson-six')::jsonb ->> 'registrationId')::integer
           AS registration_id
FROM sessions""",
            says="too many",
        ),
    ),
    hints=(
        "What does `pgp_sym_decrypt(session_data, 'lesson-six')` return, and of which type?",
        "Cast it to `jsonb`, take the key out with `->>`, and cast that to `integer`.",
    ),
)

# 2

_PLAIN: Final = """
CREATE EXTENSION IF NOT EXISTS pgcrypto;
CREATE SCHEMA mine;
SET search_path TO mine, public;
CREATE TABLE sessions (instance_name text PRIMARY KEY, session_data jsonb NOT NULL);
INSERT INTO sessions
SELECT instance_name, session_data || jsonb_build_object('n', (SELECT count(*) FROM public.chats))
FROM seed.sessions;
"""

_ENCRYPT = Problem(
    id="encryption.2",
    title="From jsonb to bytea",
    prompt="""\
The seed stores credentials in the clear: `sessions (instance_name text, session_data jsonb NOT
NULL)`. Encrypt them where they are. Afterwards `session_data` is a `bytea NOT NULL` that holds the
JSON, encrypted by `pgp_sym_encrypt` with the key `lesson-six` and **AES-256**; every row is there,
and no other column is. One statement or several.""",
    answer="script",
    starter="-- your statements here",
    setup=_PLAIN,
    checks=(
        State(
            probe="""
SELECT attname AS "column", format_type(atttypid, NULL) AS type, attnotnull AS not_null
FROM pg_attribute
WHERE attrelid = 'mine.sessions'::regclass AND attnum > 0 AND NOT attisdropped""",
            about="the columns of sessions",
        ),
        State(
            probe="""
SELECT instance_name, pgp_sym_decrypt(session_data, 'lesson-six')::jsonb AS decrypted
FROM mine.sessions""",
            about="what sessions holds, decrypted",
        ),
        Accepts(
            # RFC 4880, 5.3: tag and length of the packet, version 4, then the cipher's number.
            sql="""
DO $$ BEGIN
    ASSERT (SELECT bool_and(get_byte(session_data, 3) = 9) FROM mine.sessions),
           'the fourth byte names the cipher: 7 is AES-128, 9 is AES-256';
END $$""",
            says="A session is not encrypted with AES-256: pgcrypto uses AES-128 unless told.",
        ),
    ),
    solutions=(
        Solution(
            sql="""\
ALTER TABLE sessions
    ALTER COLUMN session_data TYPE bytea
    USING pgp_sym_encrypt(session_data::text, 'lesson-six', 'cipher-algo=aes256')""",
            why="`USING` says how each old value becomes a new one, and the table is written anew. "
            "It needs a lock that keeps everybody out meanwhile. The old file goes with it; what "
            "was in the clear lives on in backups and in the write-ahead log.",
        ),
        Solution(
            sql="""\
ALTER TABLE sessions ADD COLUMN sealed bytea;
UPDATE sessions
SET sealed = pgp_sym_encrypt(session_data::text, 'lesson-six', 'cipher-algo=aes256');
ALTER TABLE sessions DROP COLUMN session_data;
ALTER TABLE sessions RENAME COLUMN sealed TO session_data;
ALTER TABLE sessions ALTER COLUMN session_data SET NOT NULL""",
            why="In steps, as one does with a large table that is in use: the `UPDATE` can go in "
            "batches. But a dropped column's values stay in the rows until these are rewritten, "
            "and `UPDATE` leaves the old versions of rows: `VACUUM FULL` afterwards.",
        ),
    ),
    wrong=(
        Wrong(
            sql="ALTER TABLE sessions ALTER COLUMN session_data TYPE bytea "
            "USING session_data::text::bytea",
            says="what sessions holds, decrypted",
        ),
        Wrong(
            sql="UPDATE sessions SET session_data = pgp_sym_encrypt(session_data::text, "
            "'lesson-six', 'cipher-algo=aes256')",
            says="42804",
        ),
        Wrong(
            sql="ALTER TABLE sessions ALTER COLUMN session_data TYPE bytea "
            "USING pgp_sym_encrypt(session_data::text, 'lesson-six')",
            says="AES-128 unless told",
        ),
        Wrong(
            sql="""
ALTER TABLE sessions ADD COLUMN sealed bytea NOT NULL DEFAULT '';
UPDATE sessions
SET sealed = pgp_sym_encrypt(session_data::text, 'lesson-six', 'cipher-algo=aes256')""",
            says="the columns of sessions",
        ),
        Wrong(
            sql="""
BEGIN;
ALTER TABLE sessions ALTER COLUMN session_data TYPE bytea
    USING pgp_sym_encrypt(session_data::text, 'lesson-six', 'cipher-algo=aes256');
COMMIT""",
            says="Leave out BEGIN",
        ),
    ),
    hints=(
        "`ALTER TABLE … ALTER COLUMN … TYPE bytea USING …`: after `USING` stands an expression.",
        "`pgp_sym_encrypt` takes text, a key, and options, such as `'cipher-algo=aes256'`.",
    ),
)

# 3


def _knows_its_row(answer: Answer, world: World) -> None:  # noqa: ARG001 - as all scenarios
    key, other_key = bytes(range(32)), bytes(range(1, 33))
    for text in ("+51 987 654 321", "", "Ñandú 🤖 " * 100):
        sealed = answer.seal(key, 7, text)
        expect(isinstance(sealed, bytes), "seal is to return bytes.", repr(sealed)[:200])
        back = answer.unseal(key, 7, sealed)
        seen = f"unseal(key, 7, seal(key, 7, {text[:20]!r}…)) → {str(back)[:40]!r}"
        expect(back == text, "What was sealed does not come back.", seen)
    first, second = (answer.seal(key, 7, "+51 987 654 321") for _ in range(2))
    expect(b"987" not in first, "The text can be read in what seal returns.", repr(first))
    expect(
        first != second,
        "The same text, sealed twice, looks the same: whoever reads the table sees that two rows "
        "are equal. Worse, a nonce that comes twice breaks GCM altogether.",
        f"{first.hex()}\n{second.hex()}",
    )
    moved = error_of(lambda: answer.unseal(key, 8, first))
    expect(
        moved is not None,
        "Somebody copied the ciphertext of row 7 into row 8, and row 8 opens it as its own.",
        "unseal(key, 8, seal(key, 7, …)) → +51 987 654 321",
    )
    damaged = bytearray(first)
    for position in range(len(first)):
        damaged[position] ^= 1
        error = error_of(lambda: answer.unseal(key, 7, bytes(damaged)))
        expect(error is not None, f"One bit in byte {position} was changed, and nobody notices.")
        damaged[position] ^= 1
    wrong_key = error_of(lambda: answer.unseal(other_key, 7, first))
    expect(wrong_key is not None, "Another key opens it as well.")


_KNOWS_ROW = Problem(
    id="encryption.3",
    title="A ciphertext that knows its row",
    prompt="""\
Write `seal(key, row_id, text)`, which returns `bytes` to be stored in a row, and
`unseal(key, row_id, sealed)`, which returns the text. Use AES-256-GCM (`AESGCM(key)`) with a new
random nonce of 12 bytes for each value. A ciphertext that is copied to another row, or changed in
any bit, must not open: `unseal` raises an error, whichever. The lesson's `pglab.encryption` does
this and more; here it is your turn, with `cryptography` alone.""",
    answer="python",
    hidden=False,
    starter="""\
import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def seal(key: bytes, row_id: int, text: str) -> bytes:
    ...


def unseal(key: bytes, row_id: int, sealed: bytes) -> str:
    ...""",
    checks=(Behaves(scenario=_knows_its_row),),
    solutions=(
        Solution(
            python="""\
import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def place(row_id: int) -> bytes:
    return f"contacts.phone:{row_id}".encode()


def seal(key: bytes, row_id: int, text: str) -> bytes:
    nonce = os.urandom(12)
    return nonce + AESGCM(key).encrypt(nonce, text.encode(), place(row_id))


def unseal(key: bytes, row_id: int, sealed: bytes) -> str:
    return AESGCM(key).decrypt(sealed[:12], sealed[12:], place(row_id)).decode()""",
            why="The third argument is associated data: it is not stored, and not secret, but the "
            "tag is computed over it, too. Row 8 offers another place than row 7 did, and the tag "
            "does not fit. Table and column belong to the place as well, or a value could move "
            "between columns.",
        ),
    ),
    wrong=(
        Wrong(
            python="""
import os
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
def seal(key, row_id, text):
    nonce = os.urandom(12)
    return nonce + AESGCM(key).encrypt(nonce, text.encode(), None)
def unseal(key, row_id, sealed):
    return AESGCM(key).decrypt(sealed[:12], sealed[12:], None).decode()""",
            says="row 8 opens it as its own",
        ),
        Wrong(
            python="""
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
def seal(key, row_id, text):
    nonce = row_id.to_bytes(12, "big")
    return nonce + AESGCM(key).encrypt(nonce, text.encode(), str(row_id).encode())
def unseal(key, row_id, sealed):
    return AESGCM(key).decrypt(sealed[:12], sealed[12:], str(row_id).encode()).decode()""",
            says="sealed twice, looks the same",
        ),
        Wrong(
            python="""
import os
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
def seal(key, row_id, text):
    nonce = os.urandom(16)
    work = Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor()
    return nonce + row_id.to_bytes(4, "big") + work.update(text.encode())
def unseal(key, row_id, sealed):
    if sealed[16:20] != row_id.to_bytes(4, "big"):
        raise ValueError("another row")
    work = Cipher(algorithms.AES(key), modes.CTR(sealed[:16])).decryptor()
    return work.update(sealed[20:]).decode(errors="replace")""",
            says="was changed, and nobody notices",
        ),
        Wrong(
            python="""
import os
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
def seal(key, row_id, text):
    return AESGCM(key).encrypt(os.urandom(12), text.encode(), str(row_id).encode())
def unseal(key, row_id, sealed):
    return AESGCM(key).decrypt(sealed[:12], sealed[12:], str(row_id).encode()).decode()""",
            says="InvalidTag",
        ),
    ),
    hints=(
        "To decrypt you need the nonce that was used: store it in front of the ciphertext.",
        (
            "`AESGCM(key).encrypt(nonce, data, associated_data)`: what could the third argument "
            "hold, so that it is another in another row?"
        ),
    ),
)

# 4


def _rotates(answer: Answer, world: World) -> None:
    from pglab import encryption

    materials = {name: encryption.generate_key() for name in ("2026-11", "2027-02")}
    old = encryption.LocalKeys({"2026-11": materials["2026-11"]})
    both = encryption.LocalKeys(materials, current="2027-02")
    new = encryption.LocalKeys({"2027-02": materials["2027-02"]})
    other = world.connect(autocommit=True)
    other.execute("DELETE FROM sessions")
    ids = [row[0] for row in other.execute("SELECT id FROM instances ORDER BY name LIMIT 6")]
    for number, instance in enumerate(ids):
        encryption.store_session(other, instance, {"n": number}, old)
    before = _sessions(other)
    mine = world.connect()

    def step(size: int, wanted: int, when: str) -> None:
        got = answer.rotate_batch(mine, both, size)
        seen = f"rotate_batch(connection, keys, {size}) → {got!r}"
        expect(got == wanted, f"{when}, {wanted} is to be returned.", seen)

    step(2, 2, "With 6 old rows and a size of 2")
    after = _sessions(other)
    changed = [row for row in ids if after[row] != before[row]]
    expect(
        len(changed) == 2,
        "2 rows are to be changed, for all to see.",
        f"another connection sees {len(changed)} changed: is there a commit?",
    )
    held = next(row for row in ids if row not in changed)
    holder = world.connect()
    holder.execute("SELECT FROM sessions WHERE instance_id = %s FOR UPDATE", [held])
    error = error_of(lambda: step(10, 3, "With 4 old rows, and one of them held by somebody else"))
    if isinstance(error, psycopg.errors.LockNotAvailable):
        raise NotYet(
            "Somebody else holds a row, and the rotation does not get on: it is to pass it over.",
            str(error).strip(),
        )
    if error is not None:
        raise error
    holder.rollback()
    step(10, 1, "When that row is free again")
    step(10, 0, "When nothing is left to do")
    for number, instance in enumerate(ids):
        blob, key_id, updated = _sessions(other)[instance]
        sealed, sealed_before = (
            encryption.Envelope.parse(b).sealed for b in (blob, before[instance][0])
        )
        expect(key_id == "2027-02", "key_id does not name the new key.", f"key_id → {key_id!r}")
        opened = error_of(lambda row=instance: encryption.load_session(other, row, new))  # type: ignore[misc]
        expect(opened is None, "The new key alone does not open a row.", f"{opened!r}")
        value = encryption.load_session(other, instance, new)
        expect(value == {"n": number}, "A row holds something else than before.", repr(value))
        expect(
            sealed == sealed_before,
            "The credentials were decrypted and encrypted again. Only their data key needs a new "
            "wrapping: rewrap() does it without seeing them.",
        )
        expect(updated == before[instance][2], "updated_at is the credentials' time: leave it.")


def _sessions(connection: psycopg.Connection[Any]) -> dict[Any, tuple[bytes, str, Any]]:
    rows = connection.execute("SELECT instance_id, credentials, key_id, updated_at FROM sessions")
    return {row[0]: (bytes(row[1]), row[2], row[3]) for row in rows}


_ROTATION = Problem(
    id="encryption.4",
    title="One batch of a rotation",
    prompt="""\
`sessions (instance_id, credentials bytea, key_id text, updated_at)` holds credentials as
`encryption.store_session` stores them. Write `rotate_batch(connection, keys, size)`: it takes at
most `size` rows whose `key_id` is not `keys.current_key_id`, gives their credentials the current
key with

    encryption.rewrap(blob, keys=keys, context=encryption.session_context(instance_id))

stores them with the new `key_id`, commits, and returns how many rows it did. A row that somebody
else has locked is passed over, not waited for. `updated_at` stays as it is. (The connection is not
in autocommit mode.)""",
    answer="python",
    hidden=False,
    starter="""\
from pglab import encryption


def rotate_batch(connection, keys, size: int) -> int:
    ...""",
    checks=(Behaves(scenario=_rotates, database=True),),
    solutions=(
        Solution(
            python='''\
from pglab import encryption


def rotate_batch(connection, keys, size: int) -> int:
    with connection.transaction():
        rows = connection.execute(
            """
            SELECT instance_id, credentials FROM sessions
            WHERE key_id IS DISTINCT FROM %s
            ORDER BY instance_id LIMIT %s
            FOR UPDATE SKIP LOCKED
            """,
            (keys.current_key_id, size),
        ).fetchall()
        for instance_id, blob in rows:
            context = encryption.session_context(instance_id)
            blob = encryption.rewrap(blob, keys=keys, context=context)
            connection.execute(
                "UPDATE sessions SET credentials = %s, key_id = %s WHERE instance_id = %s",
                (blob, keys.current_key_id, instance_id),
            )
    return len(rows)''',
            why="Without `FOR UPDATE` somebody could store new credentials between your `SELECT` "
            "and your `UPDATE`, and you would overwrite them with the old ones. Each batch is a "
            "transaction of its own: killed at any moment, the rotation goes on where it was, for "
            "what is done no longer matches. And reading works all the time, with both keys at "
            "hand.",
        ),
    ),
    wrong=(
        Wrong(
            python="""
from pglab import encryption
def rotate_batch(connection, keys, size):
    with connection.transaction():
        rows = connection.execute(
            "SELECT instance_id, credentials FROM sessions WHERE key_id <> %s "
            "ORDER BY instance_id LIMIT %s FOR UPDATE", (keys.current_key_id, size)).fetchall()
        for instance_id, blob in rows:
            blob = encryption.rewrap(
                blob, keys=keys, context=encryption.session_context(instance_id))
            connection.execute(
                "UPDATE sessions SET credentials = %s, key_id = %s WHERE instance_id = %s",
                (blob, keys.current_key_id, instance_id))
    return len(rows)""",
            says="the rotation does not get on",
        ),
        Wrong(
            python="""
from pglab import encryption
def rotate_batch(connection, keys, size):
    with connection.transaction():
        rows = connection.execute(
            "SELECT instance_id, credentials FROM sessions WHERE key_id <> %s "
            "ORDER BY instance_id LIMIT %s FOR UPDATE SKIP LOCKED",
            (keys.current_key_id, size)).fetchall()
        for instance_id, blob in rows:
            context = encryption.session_context(instance_id)
            plain = encryption.decrypt(blob, keys=keys, context=context)
            blob = encryption.encrypt(plain, keys=keys, context=context)
            connection.execute(
                "UPDATE sessions SET credentials = %s, key_id = %s WHERE instance_id = %s",
                (blob, keys.current_key_id, instance_id))
    return len(rows)""",
            says="rewrap() does it without seeing them",
        ),
        Wrong(
            python="""
from pglab import encryption
def rotate_batch(connection, keys, size):
    return connection.execute(
        "UPDATE sessions SET key_id = %s WHERE instance_id IN (SELECT instance_id FROM sessions "
        "WHERE key_id <> %s LIMIT %s)", (keys.current_key_id, keys.current_key_id, size)).rowcount
""",
            says="is there a commit?",
        ),
        Wrong(
            python="""
from pglab import encryption
def rotate_batch(connection, keys, size):
    with connection.transaction():
        rows = connection.execute(
            "SELECT instance_id, credentials FROM sessions WHERE key_id <> %s "
            "ORDER BY instance_id LIMIT %s FOR UPDATE SKIP LOCKED",
            (keys.current_key_id, size)).fetchall()
        for instance_id, blob in rows:
            blob = encryption.rewrap(
                blob, keys=keys, context=encryption.session_context(instance_id))
            connection.execute(
                "UPDATE sessions SET credentials = %s WHERE instance_id = %s", (blob, instance_id))
    return len(rows)""",
            says="With 4 old rows",
        ),
    ),
    hints=(
        "Choose and lock the rows in one query, so that nobody changes them until you have.",
        "`SELECT … LIMIT … FOR UPDATE SKIP LOCKED`, then an `UPDATE` for each row.",
        "All of it in `with connection.transaction():`, which commits at its end.",
    ),
)

# 5

_PHONES: Final = """
CREATE EXTENSION IF NOT EXISTS pgcrypto;
CREATE SCHEMA mine;
SET search_path TO mine, public;
CREATE TABLE contacts (id integer PRIMARY KEY, phone_sealed bytea NOT NULL, phone text NOT NULL);
INSERT INTO contacts
SELECT n, '\\x00',
       CASE n % 3 WHEN 0 THEN '+51 ' || left(d, 3) || ' ' || right(d, 6)
                  WHEN 1 THEN '51' || d
                  ELSE '(+51) ' || left(d, 3) || '-' || substr(d, 4, 3) || '-' || right(d, 3)
       END
FROM generate_series(1, 4000) AS n,
     LATERAL (SELECT (900000000 + n % 3900 * 7919
                      + (SELECT count(*) FROM public.messages))::text AS d) AS digits;
ANALYZE contacts;
"""

_BLIND = Problem(
    id="encryption.5",
    title="Found without being read",
    prompt="""\
`contacts (id, phone_sealed bytea, phone text)`: the phone numbers were just encrypted into
`phone_sealed`, and `phone` is about to be dropped. Before that, make a blind index, so that a
number can still be found: a column `phone_index bytea` with the HMAC-SHA-256 (`hmac(…)` of
pgcrypto, key `index-key`) of the number's digits only, because the same number is written in
several ways, such as `+51 987 654321` and `51987654321`; and an index on it. Leave `phone` where it
is.""",
    answer="script",
    starter="-- your statements here",
    setup=_PHONES,
    checks=(
        State(
            probe="SELECT id, phone_index FROM mine.contacts",
            about="the column phone_index of contacts",
        ),
        Plan(
            query="""\
SELECT id FROM mine.contacts WHERE phone_index = hmac('51987654321', 'index-key', 'sha256')""",
            no_seq_scan=("contacts",),
            index=IndexOn("contacts", "phone_index"),
        ),
    ),
    solutions=(
        Solution(
            sql="""\
ALTER TABLE contacts ADD COLUMN phone_index bytea;
UPDATE contacts
SET phone_index = hmac(regexp_replace(phone, '[^0-9]', '', 'g'), 'index-key', 'sha256');
CREATE INDEX ON contacts (phone_index)""",
            why="A ciphertext is another each time, so it cannot be searched. An HMAC is the same "
            "each time, for whoever has the key. The price: everybody who reads the table sees "
            "which rows have the same number. Without a key (`digest`) it would be worse: a phone "
            "number has so few possibilities that one tries them all.",
        ),
        Solution(
            sql="""\
ALTER TABLE contacts ADD COLUMN phone_index bytea GENERATED ALWAYS AS
    (hmac(regexp_replace(phone, '\\D', '', 'g'), 'index-key', 'sha256')) STORED;
CREATE INDEX contacts_phone_index ON contacts USING hash (phone_index)""",
            why="A generated column fills itself, but then the key stands in the table's "
            "definition, and in every dump; and it hinders dropping `phone`. Good for this "
            "exercise, bad for the real thing, where the program computes the HMAC.",
        ),
    ),
    wrong=(
        Wrong(
            sql="""
ALTER TABLE contacts ADD COLUMN phone_index bytea;
UPDATE contacts SET phone_index = hmac(phone, 'index-key', 'sha256');
CREATE INDEX ON contacts (phone_index)""",
            says="the column phone_index of contacts",
        ),
        Wrong(
            sql="""
ALTER TABLE contacts ADD COLUMN phone_index bytea;
UPDATE contacts SET phone_index = digest(regexp_replace(phone, '[^0-9]', '', 'g'), 'sha256');
CREATE INDEX ON contacts (phone_index)""",
            says="the column phone_index of contacts",
        ),
        Wrong(
            sql="""
ALTER TABLE contacts ADD COLUMN phone_index bytea;
UPDATE contacts
SET phone_index = hmac(regexp_replace(phone, '[^0-9]', '', 'g'), 'index-key', 'sha256')""",
            says="reads the whole table contacts",
        ),
        Wrong(
            sql="""
ALTER TABLE contacts ADD COLUMN phone_index bytea;
UPDATE contacts
SET phone_index = hmac(regexp_replace(phone, '[^0-9]', '', 'g'), 'index-key', 'sha256');
CREATE UNIQUE INDEX ON contacts (phone_index)""",
            says="23505",
        ),
    ),
    hints=(
        "First make the ways of writing equal: `regexp_replace(phone, '[^0-9]', '', 'g')`.",
        "`hmac(data, key, 'sha256')` returns `bytea`. Three statements: column, values, index.",
    ),
)

# 6

_INSERT: Final = """\
INSERT INTO messages
    (instance_id, chat_id, whatsapp_id, from_me, message_type, key, message, sent_at)
SELECT c.instance_id, c.id, 'EXERCISE', true, 'text', '{}', '{}', now()
FROM chats AS c JOIN instances AS i ON i.id = c.instance_id WHERE i.name %s LIMIT 1"""


def _as(role: str, sql: str) -> str:
    return f"SET LOCAL ROLE {role};\n{sql}"


def _gateway(sql: str) -> str:
    return _as("exercise_gateway", sql)


def _later(sql: str) -> str:
    return f"CREATE TABLE public.later (n integer);\n{_gateway(sql)}"


_ITS_WORK: Final = "The gateway cannot do its work."
_TOO_MUCH: Final = "That is more than the gateway needs."

_PRIVILEGES = Problem(
    id="encryption.6",
    title="Only what the gateway needs",
    prompt="""\
There is a role `exercise_gateway`, which may do nothing yet. Let it read `instances`, `chats` and
`messages`, insert into `messages`, and change the column `status` of `messages`; and nothing else.
Also see to it that it can read, and only read, every table that **you** (the role that runs this)
make in the schema `public` from now on."""
    + _ROLES,
    answer="script",
    starter="-- your statements here",
    setup="CREATE ROLE exercise_gateway; GRANT exercise_gateway TO CURRENT_USER;",
    checks=(
        Accepts(
            sql=_gateway("""\
SELECT count(*)
FROM messages AS m
JOIN chats AS c ON c.id = m.chat_id
JOIN instances AS i ON i.id = c.instance_id"""),
            says=f"{_ITS_WORK} It is to read instances, chats and messages.",
        ),
        Accepts(
            sql=_gateway(_INSERT % "IS NOT NULL"),
            says=f"{_ITS_WORK} It is to insert into messages.",
        ),
        Accepts(
            sql=_gateway("UPDATE messages SET status = 'read' WHERE id = 1"),
            says=f"{_ITS_WORK} It is to change the status of messages.",
        ),
        *(
            Refuses(sql=_gateway(sql), sqlstate="42501", says=f"{_TOO_MUCH} {says}")
            for sql, says in (
                ("UPDATE messages SET body = 'x' WHERE id = 1", "It can change what people wrote."),
                ("DELETE FROM messages WHERE id = 1", "It can delete messages."),
                ("SELECT credentials FROM sessions LIMIT 1", "It can read the sessions."),
                ("TRUNCATE message_updates", "It can empty a table."),
                ("UPDATE instances SET name = name WHERE false", "It can change instances."),
                ("CREATE TABLE public.its_own ()", "It can make tables."),
            )
        ),
        Accepts(
            sql=_later("SELECT n FROM later"),
            says="A table that you make from now on cannot be read by exercise_gateway.",
        ),
        Refuses(
            sql=_later("INSERT INTO later VALUES (1)"),
            sqlstate="42501",
            says=f"{_TOO_MUCH} It can write to a table that you make from now on.",
        ),
    ),
    solutions=(
        Solution(
            sql="""\
GRANT SELECT ON instances, chats, messages TO exercise_gateway;
GRANT INSERT, UPDATE (status) ON messages TO exercise_gateway;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO exercise_gateway""",
            why="Begin with nothing and add. A privilege can be for one column. `GRANT … ON ALL "
            "TABLES` is for the tables that exist now (and would have given away `sessions`); "
            "default privileges are for those that one role, here you, will make.",
        ),
    ),
    wrong=(
        Wrong(
            sql="""
GRANT ALL ON ALL TABLES IN SCHEMA public TO exercise_gateway;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO exercise_gateway""",
            says="It can change what people wrote.",
        ),
        Wrong(
            sql="""
GRANT SELECT ON ALL TABLES IN SCHEMA public TO exercise_gateway;
GRANT INSERT, UPDATE (status) ON messages TO exercise_gateway;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO exercise_gateway""",
            says="It can read the sessions.",
        ),
        Wrong(
            sql="""
GRANT SELECT ON instances, chats, messages TO exercise_gateway;
GRANT INSERT, UPDATE (status) ON messages TO exercise_gateway""",
            says="A table that you make from now on cannot be read",
        ),
        Wrong(
            sql="""
GRANT SELECT ON instances, chats, messages TO exercise_gateway;
GRANT INSERT, UPDATE (status) ON messages TO exercise_gateway;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO exercise_gateway""",
            says="It can write to a table that you make from now on.",
        ),
        Wrong(
            sql="GRANT INSERT, UPDATE (status) ON messages TO exercise_gateway",
            says="It is to read instances, chats and messages.",
        ),
        Wrong(sql="ALTER ROLE exercise_gateway SUPERUSER", says="It can change what people wrote."),
    ),
    hints=(
        "`GRANT SELECT ON … TO exercise_gateway`, with the tables by name.",
        (
            "A column's privilege: `GRANT UPDATE (column) ON table`. For tables to come: "
            "`ALTER DEFAULT PRIVILEGES`."
        ),
    ),
)

# 7

_TELL: Final = """\
SELECT set_config('app.instance_id', i.id::text, true),
       set_config('app.expected', count(m)::text, true)
FROM instances AS i JOIN messages AS m ON m.instance_id = i.id
WHERE i.name = 'sciencebot-demo' GROUP BY i.id;
"""


def _tenant(sql: str) -> str:
    return _TELL + _as("exercise_tenant", sql)


def _assert(condition: str, message: str) -> str:
    return f"DO $$ BEGIN ASSERT {condition}, '{message}'; END $$"


_SEES_NOTHING: Final = _assert("(SELECT count(*) FROM messages) = 0", "it sees messages")

_TENANTS = Problem(
    id="encryption.7",
    title="No row of another instance",
    prompt="""\
In the real system a query without `instanceId` reads and changes what belongs to others. Let the
server prevent it: with **row-level security** on `messages`, the role `exercise_tenant` sees,
inserts and updates rows of one instance only, the one whose id stands in the setting
`app.instance_id` (the program says `SET LOCAL app.instance_id = '…'` in each transaction). If the
setting was never made, or is an empty text (which it is in a pool, after the transaction that had
made it), there is no row, and no error either. The role has its privileges on the table already;
making the setting is the program's part."""
    + _ROLES,
    answer="script",
    starter="-- your statements here",
    setup="""
CREATE ROLE exercise_tenant;
GRANT exercise_tenant TO CURRENT_USER;
GRANT SELECT ON instances, chats TO exercise_tenant;
GRANT SELECT, INSERT, UPDATE ON messages TO exercise_tenant;
""",
    # The first must come first: a setting that was made once is an empty text ever after.
    checks=(
        Accepts(
            sql=_as("exercise_tenant", _SEES_NOTHING),
            says="Where app.instance_id was never set, there is to be no row, and no error.",
        ),
        Accepts(
            sql="SET LOCAL app.instance_id = '';\n" + _as("exercise_tenant", _SEES_NOTHING),
            says="Where app.instance_id is empty, as it is in a pool after another transaction, "
            "there is to be no row, and no error.",
        ),
        Accepts(
            sql=_tenant(
                _assert(
                    "(SELECT count(*) FROM messages)::text = current_setting('app.expected')",
                    "it sees too many messages, or too few",
                )
            ),
            says="With app.instance_id set, exercise_tenant is to see exactly that instance's "
            "rows.",
        ),
        Accepts(
            sql=_tenant(_INSERT % "= 'sciencebot-demo'"),
            says="exercise_tenant cannot insert a message of its own instance.",
        ),
        Refuses(
            sql=_tenant(_INSERT % "<> 'sciencebot-demo'"),
            sqlstate="42501",
            says="exercise_tenant can insert a message into another instance.",
        ),
        Accepts(
            sql=_tenant("""\
DO $$
DECLARE changed bigint;
BEGIN
    UPDATE messages SET status = 'read';  -- instanceId forgotten
    GET DIAGNOSTICS changed = ROW_COUNT;
    ASSERT changed::text = current_setting('app.expected'), changed || ' rows changed';
END $$"""),
            says="An UPDATE that forgets the instance is to change that instance's rows, all of "
            "them, and no others.",
        ),
    ),
    solutions=(
        Solution(
            sql="""\
ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_instance ON messages
    USING (instance_id = nullif(current_setting('app.instance_id', true), '')::uuid)""",
            why="`USING` is added to every query of a role that the policy holds for, and, where "
            "there is no `WITH CHECK`, new rows must obey it, too. `true` makes a missing setting "
            "`NULL` instead of an error, and `nullif` does the same for an empty one; a comparison "
            "with `NULL` is not true, so nothing is seen. Superusers, and the owner unless there "
            "is `FORCE ROW LEVEL SECURITY`, are not held back: the program must not be either.",
        ),
        Solution(
            sql="""\
ALTER TABLE messages ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY reading ON messages FOR SELECT TO exercise_tenant
    USING (instance_id::text = current_setting('app.instance_id', true));
CREATE POLICY adding ON messages FOR INSERT TO exercise_tenant
    WITH CHECK (instance_id::text = current_setting('app.instance_id', true));
CREATE POLICY changing ON messages FOR UPDATE TO exercise_tenant
    USING (instance_id::text = current_setting('app.instance_id', true))""",
            why="A policy for each kind of statement, for one role. Compared as text, nothing can "
            "fail to be a `uuid`; but an index on `instance_id` does not help then.",
        ),
    ),
    wrong=(
        Wrong(
            sql="ALTER TABLE messages ENABLE ROW LEVEL SECURITY",
            says="is to see exactly that instance's rows",
        ),
        Wrong(
            sql="""
CREATE POLICY own ON messages
    USING (instance_id = nullif(current_setting('app.instance_id', true), '')::uuid)""",
            says="Where app.instance_id was never set",
        ),
        Wrong(
            sql="""
ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON messages USING (instance_id = current_setting('app.instance_id')::uuid)""",
            says="42704",
        ),
        Wrong(
            sql="""
ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON messages
    USING (instance_id = current_setting('app.instance_id', true)::uuid)""",
            says="Where app.instance_id is empty",
        ),
        Wrong(
            sql="""
ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON messages FOR SELECT
    USING (instance_id = nullif(current_setting('app.instance_id', true), '')::uuid)""",
            says="cannot insert a message of its own instance",
        ),
        Wrong(
            sql="""
ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON messages
    USING (instance_id = nullif(current_setting('app.instance_id', true), '')::uuid)
    WITH CHECK (true)""",
            says="can insert a message into another instance",
        ),
        Wrong(
            sql="""
ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON messages
    USING (instance_id = (SELECT id FROM instances WHERE name = 'sciencebot-demo'))""",
            says="Where app.instance_id was never set",
        ),
    ),
    hints=(
        "Two statements: one switches row-level security on, the other makes a policy.",
        (
            "`CREATE POLICY … ON messages USING (instance_id = …)`; the setting's value comes from "
            "`current_setting('app.instance_id', true)`."
        ),
        "What is `''::uuid`? `nullif(…, '')` makes it `NULL` before the cast.",
    ),
)

# 8


def _support(sql: str) -> str:
    return _as("exercise_support", sql)


_DEFINER = Problem(
    id="encryption.8",
    title="With the owner's rights",
    prompt="""\
The role `exercise_support` may not read `sessions` (there are credentials in it), and must be able
to ask whether an instance has a session. Make a function `public.has_session(instance_name text)`
that returns `boolean`, and lets `exercise_support`, and nobody else but you, ask. Whoever calls it
must not be able to make it lie: neither with tables of the same names of his own (temporary ones,
too), nor with a `search_path` that leads to his own operators."""
    + _ROLES,
    answer="script",
    starter="-- your statements here",
    setup="""
CREATE ROLE exercise_support;
CREATE ROLE exercise_stranger;
GRANT exercise_support, exercise_stranger TO CURRENT_USER;
CREATE SCHEMA playground;
GRANT USAGE, CREATE ON SCHEMA playground TO exercise_support;
DELETE FROM sessions AS s USING instances AS i
WHERE i.id = s.instance_id AND i.name <> 'sciencebot-production';
""",
    checks=(
        Accepts(
            sql=_support(
                _assert(
                    "public.has_session('sciencebot-production') AND NOT "
                    "public.has_session('sciencebot-demo') AND NOT public.has_session('nobody')",
                    "a wrong answer",
                )
            ),
            says="Called by exercise_support, the function is to answer: sciencebot-production has "
            "a session, sciencebot-demo has none, and nobody (which is no instance) has none.",
        ),
        Refuses(
            sql=_support("SELECT instance_id FROM sessions"),
            sqlstate="42501",
            says="exercise_support can read the table sessions itself.",
        ),
        Refuses(
            sql=_as("exercise_stranger", "SELECT public.has_session('nobody')"),
            sqlstate="42501",
            says="Every role may call the function: PUBLIC may execute a new function, until that "
            "is revoked.",
        ),
        Accepts(
            sql=_support(
                """\
CREATE TEMPORARY TABLE instances (id uuid, name text);
CREATE TEMPORARY TABLE sessions (instance_id uuid);
GRANT SELECT ON instances, sessions TO PUBLIC;
INSERT INTO instances VALUES ('00000000-0000-0000-0000-000000000000', 'nobody');
INSERT INTO sessions VALUES ('00000000-0000-0000-0000-000000000000');
"""
                + _assert("NOT public.has_session('nobody')", "it says: nobody has a session")
            ),
            says="With temporary tables of its own, exercise_support makes the function lie: "
            "pg_temp is searched first, unless it is named at another place.",
        ),
        Accepts(
            sql=_support(
                """\
CREATE FUNCTION playground.yes(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR playground.= (LEFTARG = text, RIGHTARG = text, FUNCTION = playground.yes);
SET LOCAL search_path TO playground, pg_catalog, public;
"""
                + _assert("NOT public.has_session('nobody')", "it says: nobody has a session")
            ),
            says="With an operator = of its own and a search_path that leads to it, "
            "exercise_support makes the function lie. It could as well make it do something with "
            "your rights.",
        ),
    ),
    solutions=(
        Solution(
            sql="""\
CREATE FUNCTION public.has_session(instance_name text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM sessions AS s JOIN instances AS i ON i.id = s.instance_id
                   WHERE i.name = instance_name)
$$;
REVOKE EXECUTE ON FUNCTION public.has_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.has_session TO exercise_support""",
            why="`SECURITY DEFINER` runs it with your rights, so everything in it must mean what "
            "you meant: `SET search_path` holds while it runs, whatever the caller has set. "
            "`pg_temp` stands last, because it is searched first where it is not named. Nobody "
            "else may create anything in `public` (since PostgreSQL 15).",
        ),
        Solution(
            sql="""\
CREATE FUNCTION public.has_session(instance_name text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = ''
AS $$
    SELECT EXISTS (SELECT FROM public.sessions AS s
                   JOIN public.instances AS i ON i.id = s.instance_id
                   WHERE i.name = instance_name)
$$;
REVOKE ALL ON FUNCTION public.has_session(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.has_session(text) TO exercise_support""",
            why="Stricter: an empty path, and every name in full. `pg_catalog` is always searched; "
            "`pg_temp` would be as well, but no name here is without a schema.",
        ),
    ),
    wrong=(
        Wrong(
            sql="""
CREATE FUNCTION public.has_session(instance_name text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM public.sessions AS s
                   JOIN public.instances AS i ON i.id = s.instance_id WHERE i.name = instance_name)
$$;
REVOKE EXECUTE ON FUNCTION public.has_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.has_session TO exercise_support""",
            says="42501",
        ),
        Wrong(
            sql="""
CREATE FUNCTION public.has_session(instance_name text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM sessions AS s JOIN instances AS i ON i.id = s.instance_id
                   WHERE i.name = instance_name)
$$""",
            says="PUBLIC may execute a new function",
        ),
        Wrong(
            sql="""
CREATE FUNCTION public.has_session(instance_name text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
    SELECT EXISTS (SELECT FROM sessions AS s JOIN instances AS i ON i.id = s.instance_id
                   WHERE i.name = instance_name)
$$;
REVOKE EXECUTE ON FUNCTION public.has_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.has_session TO exercise_support""",
            says="pg_temp is searched first",
        ),
        Wrong(
            sql="""
CREATE FUNCTION public.has_session(instance_name text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT EXISTS (SELECT FROM public.sessions AS s
                   JOIN public.instances AS i ON i.id = s.instance_id WHERE i.name = instance_name)
$$;
REVOKE EXECUTE ON FUNCTION public.has_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.has_session TO exercise_support""",
            says="With an operator = of its own",
        ),
        Wrong(
            sql="""
GRANT SELECT ON sessions, instances TO exercise_support;
CREATE FUNCTION public.has_session(instance_name text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (SELECT FROM sessions AS s JOIN instances AS i ON i.id = s.instance_id
                   WHERE i.name = instance_name)
$$;
REVOKE EXECUTE ON FUNCTION public.has_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.has_session TO exercise_support""",
            says="can read the table sessions itself",
        ),
    ),
    hints=(
        "`SECURITY DEFINER` runs a function with the rights of whoever made it: yours.",
        "A function can have a setting: `SET search_path = …`. Where would `pg_temp` do no harm?",
        "`REVOKE EXECUTE ON FUNCTION … FROM PUBLIC`, then `GRANT EXECUTE … TO exercise_support`.",
    ),
)

# 9


def _closes_the_hole(answer: Answer, world: World) -> None:
    connection = world.connect(autocommit=True)
    other = world.connect(autocommit=True)

    def rows() -> Any:
        exists = other.execute("""SELECT to_regclass('"Contact"')""").fetchone()
        expect(exists != (None,), "The table Contact is gone.", attack)
        return other.execute('SELECT count(*) FROM "Contact"').fetchone()

    def ask(table: str, column: str, value: str) -> Any:
        return answer.find(connection, table, column, value)

    for column, value, wanted in (
        ("pushName", "Ana", [1, 3]),
        ("pushName", "Nobody", []),
        ("owner's note", "100 %", [4]),
        ("pushName", "Sinéad O'Hara", [2]),
        ("pushName", '"quoted"', [4]),
    ):
        attack = f'find(connection, "Contact", {column!r}, {value!r})'
        got = ask("Contact", column, value)
        expect(got == wanted, f"{wanted} is to be returned.", f"{attack} → {got!r}")
    for value in ("' OR '1'='1", "x' OR true --", '\'; DELETE FROM "Contact"; --', "\\' OR 1=1 --"):
        attack = f'find(connection, "Contact", "pushName", {value!r})'
        got = ask("Contact", "pushName", value)
        seen = f"{attack} → {got!r}"
        expect(rows() == (4,), "A value deleted the contacts.", seen)
        expect(got == [], "A value, which is no name of anybody, finds contacts.", seen)
    for table, column in (
        ("Contact", '"pushName" = \'\' OR "pushName"'),
        ("Contact", "pushName\" = '' OR \"pushName"),
        ("Contact", 'id = id OR "pushName"'),
        ('"Contact"; DELETE FROM "Contact"; --', "pushName"),
        ('Contact"; DELETE FROM "Contact"; --', "pushName"),
    ):
        attack = f'find(connection, {table!r}, {column!r}, "x")'
        got = None

        def try_it(table: str = table, column: str = column) -> None:
            nonlocal got
            got = ask(table, column, "x")

        error = error_of(try_it)
        expect(rows() == (4,), "A name of a table deleted the contacts.", attack)
        expect(
            error is not None,
            "There is no such table or column, and no error either: what was given as a name was "
            "run as a part of the query.",
            f"{attack} → {got!r}",
        )


_INJECTION = Problem(
    id="encryption.9",
    title="Close the hole",
    prompt="""\
The function below returns the ids of the rows of a table whose column has a value, in order. Table,
column and value come from outside. Rewrite it so that a value is nothing but a value, and a name
nothing but a name. Names are written as they are in the real system, without quotes, such as
`Contact` and `pushName` (mixed case), and one column is called `owner's note`. A table or column
that does not exist raises an error; a value that nobody has finds nothing.""",
    answer="python",
    hidden=False,
    starter="""\
from psycopg import sql


def find(connection, table: str, column: str, value: str) -> list[int]:
    query = f"SELECT id FROM {table} WHERE {column} = '{value}' ORDER BY id"
    return [row[0] for row in connection.execute(query)]""",
    setup="""
CREATE TABLE "Contact" (id integer PRIMARY KEY, "pushName" text, "owner's note" text);
INSERT INTO "Contact" VALUES (1, 'Ana', ''), (2, 'Sinéad O''Hara', ''), (3, 'Ana', 'x'),
                             (4, '"quoted"', '100 %');
""",
    checks=(Behaves(scenario=_closes_the_hole, database=True),),
    solutions=(
        Solution(
            python="""\
from psycopg import sql


def find(connection, table: str, column: str, value: str) -> list[int]:
    query = sql.SQL("SELECT id FROM {} WHERE {} = %s ORDER BY id").format(
        sql.Identifier(table), sql.Identifier(column)
    )
    return [row[0] for row in connection.execute(query, [value])]""",
            why="A parameter travels apart from the query, so nothing in it can become part of the "
            "query. Names cannot be parameters, because the server must know the table before it "
            "can plan; `sql.Identifier` quotes them, and doubles a quote inside. Where the names "
            "are known beforehand, a list of those that are allowed is better still: a stranger "
            "should not choose the table.",
        ),
        Solution(
            python="""\
from psycopg import sql

ALLOWED = {("Contact", "pushName"), ("Contact", "owner's note")}


def find(connection, table: str, column: str, value: str) -> list[int]:
    if (table, column) not in ALLOWED:
        raise ValueError(f"nobody may search {table!r} by {column!r}")
    query = sql.SQL("SELECT id FROM {table} WHERE {column} = {value} ORDER BY id").format(
        table=sql.Identifier(table),
        column=sql.Identifier(column),
        value=sql.Placeholder(),
    )
    return [row[0] for row in connection.execute(query, (value,))]""",
            why="With such a list: names that are not on it never reach the server.",
        ),
    ),
    wrong=(
        Wrong(
            python="""
def find(connection, table, column, value):
    query = f'SELECT id FROM "{table}" WHERE "{column}" = %s ORDER BY id'
    return [row[0] for row in connection.execute(query, [value])]""",
            says="what was given as a name was run as a part of the query",
        ),
        Wrong(
            python="""
def find(connection, table, column, value):
    query = f'''SELECT id FROM "{table}" WHERE "{column}" = '{value}' ORDER BY id'''
    return [row[0] for row in connection.execute(query)]""",
            says="SyntaxError",
        ),
        Wrong(
            python="""
def find(connection, table, column, value):
    query = f"SELECT id FROM {table} WHERE {column} = %s ORDER BY id"
    return [row[0] for row in connection.execute(query, [value])]""",
            says="UndefinedTable",
        ),
        Wrong(
            python="""
def find(connection, table, column, value):
    query = "SELECT id FROM %s WHERE %s = %s ORDER BY id"
    return [row[0] for row in connection.execute(query, [table, column, value])]""",
            says="syntax error at or near",
        ),
        Wrong(
            python="""
def find(connection, table, column, value):
    if any(word in (table + column + value).upper() for word in ("DROP", "DELETE", "--", ";")):
        return []
    value = value.replace("'", "''")
    query = f'''SELECT id FROM "{table}" WHERE "{column}" = '{value}' ORDER BY id'''
    return [row[0] for row in connection.execute(query)]""",
            says="what was given as a name was run as a part of the query",
        ),
    ),
    hints=(
        "The value is easy: `%s` in the query, and the value as a parameter of `execute`.",
        "For names: `sql.SQL('… {} …').format(sql.Identifier(name))`.",
    ),
)

PROBLEMS = (
    _DECRYPT,
    _ENCRYPT,
    _KNOWS_ROW,
    _ROTATION,
    _BLIND,
    _PRIVILEGES,
    _TENANTS,
    _DEFINER,
    _INJECTION,
)
