"""What encryption costs: by payload, by key derivation, in a search; and row-level security.

The cost of TLS needs a server with TLS: see ``pglab.bench.tls_cost``.
"""

from __future__ import annotations

from typing import Final

from pglab.bench.case import DEFAULT_SIZES, Case, Claim, Draw, Variant
from pglab.bench.cases._encrypted import (
    CHEAP_S2K,
    EXTENSION,
    EncryptOnly,
    How,
    Value,
    payload,
)
from pglab.bench.cases._guarded import Guarded
from pglab.bench.cases._search import Search
from pglab.bench.operations import Query

__all__ = ["CASES"]

_SIZES: Final = (100_000,)
_PAYLOADS: Final = {
    "100b": (100, "100 B", 100),
    "1kb": (1_000, "1 kB", 100),
    "10kb": (10_000, "10 kB", 50),
    "100kb": (100_000, "100 kB", 20),
    "1mb": (1_000_000, "1 MB", 4),
}
"""By the word in a case's name: characters, in words, and values in a round."""

_HOW: Final[dict[How, str]] = {
    "plaintext": "as the real system has it",
    "pgcrypto": "pgp_sym_encrypt and its defaults: the passphrase hashed over 65,536 to 253,952 "
    "octets each time, AES-128, SHA-1 over the content; key and text go to the server",
    "pgcrypto, cheap S2K": f"the same with {CHEAP_S2K}, which is enough for a random key",
    "AES-GCM": "pglab.encryption: AES-256-GCM in this process, a data key for each value",
}
_TABLE: Final = (
    "ALTER TABLE secrets ALTER COLUMN id SET NOT NULL, "
    "ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY, ADD CONSTRAINT secrets_pkey PRIMARY KEY (id)"
)
_EXPECTED: Final = {
    True: "pgcrypto costs a constant, its key derivation, and then by the byte more than AES-GCM, "
    "which the processor has instructions for; commits do not wait for the disk here",
    False: "as writing: the key is derived again for every single value that is read",
}


def _by_payload(word: str, *, write: bool) -> Case:
    size, words, operations = _PAYLOADS[word]
    return Case(
        name=f"encrypted-{'write' if write else 'read'}-{word}",
        group="encryption",
        question=f"What does encryption add to {'storing' if write else 'reading'} {words}?",
        variants=tuple(
            Variant(how, Value(how, size, write), setup=(EXTENSION, _TABLE), about=about)
            for how, about in _HOW.items()
        ),
        twins={"secrets": "SELECT NULL::integer AS id, NULL::bytea AS content WHERE false"},
        sizes=_SIZES,
        unit="value",
        operations=operations,
        picture="bars",
        writes=write,
        expected=_EXPECTED[write],
    )


def _s2k(name: str, options: str, about: str = "") -> Variant:
    encrypt = f"octet_length(pgp_sym_encrypt('{payload(1_000)}', 'a passphrase', '{options}'))"
    return Variant(name, Query(f"SELECT {encrypt}"), setup=(EXTENSION,), about=about)


_S2K: Final = Case(
    name="encrypted-s2k",
    group="encryption",
    question="What does pgcrypto's key derivation (S2K) cost for 1 kB, and what is it worth?",
    variants=(
        _s2k("default", "s2k-mode=3", "65,536 to 253,952 octets, drawn each time"),
        _s2k("1,024 octets", CHEAP_S2K),
        _s2k("65,536 octets", "s2k-count=65536"),
        _s2k("1,048,576 octets", "s2k-count=1048576"),
        _s2k("no repetition", "s2k-mode=1", "the passphrase hashed once, with a salt"),
        Variant(
            "AES-GCM, no server",
            EncryptOnly(1_000),
            about="pglab.encryption in this process, which has a key and derives none",
        ),
    ),
    twins={},
    sizes=_SIZES,
    unit="encryption",
    picture="bars",
    expected="The time is that of the hashing. It slows down whoever guesses passphrases, by the "
    "same factor; a random key cannot be guessed, and needs none. AES-GCM at least 10 times as "
    "fast as the default.",
)

_PEOPLE: Final = (
    "SELECT n AS id, '+51 9' || lpad(n::text, 8, '0') AS phone, NULL::bytea AS sealed, "
    "NULL::bytea AS blind, md5(n::text) || md5((-n)::text) AS name "
    "FROM generate_series(1, {size} / 20) AS n"
)
_PHONE: Final = Query("SELECT id, phone FROM people WHERE phone = %(phone)s", meter="cursor")

_SEAL: Final = f"UPDATE people SET sealed = pgp_sym_encrypt(phone, 'a passphrase', '{CHEAP_S2K}')"  # noqa: S608

_BLIND: Final = Case(
    name="blind-index",
    group="encryption",
    question="What does it cost to find an encrypted phone number?",
    variants=(
        Variant(
            "plaintext, index",
            _PHONE,
            setup=("CREATE INDEX people_phone ON people (phone)",),
            claim=Claim(relation="people", index="people_phone"),
            theory="O(log n)",
        ),
        Variant(
            "blind index",
            Search("blind index"),
            setup=("CREATE INDEX people_blind ON people (blind)",),
            claim=Claim(relation="people", index="people_blind"),
            theory="O(log n)",
            about="HMAC of the number, an index on it, and what is found decrypted here",
        ),
        Variant(
            "decrypt all here",
            Search("decrypt all"),
            claim=Claim(relation="people", scan=("Seq Scan",)),
            theory="O(n)",
            about="every row fetched and decrypted by AES-GCM",
        ),
        Variant(
            "decrypt all in pgcrypto",
            Query(
                "SELECT id FROM people WHERE pgp_sym_decrypt(sealed, 'a passphrase') = %(phone)s",
                meter="cursor",
            ),
            setup=(
                EXTENSION,
                _SEAL,
                "VACUUM FULL people",
            ),
            claim=Claim(relation="people", scan=("Seq Scan",)),
            theory="O(n)",
            about=f"with {CHEAP_S2K}: the defaults would take 5 times and more as long",
        ),
    ),
    twins={"people": _PEOPLE},
    parameters=Draw(
        "SELECT '+51 9' || lpad(n::text, 8, '0') AS phone FROM generate_series(1, {size} / 20) AS n"
    ),
    sizes=DEFAULT_SIZES[:-1],
    unit="search",
    expected="The blind index grows as an index does, and costs its HMAC and one decryption; "
    "without it every row has to be decrypted.",
)

_COLUMNS: Final = "id, sent_at, body"
_TENANT: Final = "current_setting('pglab.tenant')::uuid"
_SECURED: Final = (
    "ALTER TABLE messages ENABLE ROW LEVEL SECURITY",
    # Its owner, too: on a server of the learner's own that is who asks.
    "ALTER TABLE messages FORCE ROW LEVEL SECURITY",
)
_BY_TENANT: Final = (
    "CREATE INDEX messages_instance_id_sent_at ON messages (instance_id, sent_at DESC)"
)
_POLICY: Final = f"CREATE POLICY own ON messages USING (instance_id = {_TENANT})"
_POLICY_ONCE: Final = f"CREATE POLICY own ON messages USING (instance_id = (SELECT {_TENANT}))"
_PAGE: Final = f"SELECT {_COLUMNS} FROM messages ORDER BY sent_at DESC LIMIT 50"  # noqa: S608
_PAGE_WHERE: Final = (
    f"SELECT {_COLUMNS} FROM messages WHERE instance_id = %s ORDER BY sent_at DESC LIMIT 50"  # noqa: S608
)
_INDEXED: Final = Claim(index="messages_instance_id_sent_at")
_LARGEST: Final = "SELECT instance_id FROM messages GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"
_SMALLEST: Final = "SELECT instance_id FROM messages GROUP BY 1 ORDER BY count(*), 1 LIMIT 1"

_RLS_PAGE: Final = Case(
    name="rls-page",
    group="encryption",
    question="What does row-level security add to a tenant's newest 50 messages, by an index?",
    variants=(
        Variant(
            "WHERE", Guarded(_PAGE_WHERE, _LARGEST, "none"), setup=(_BY_TENANT,), claim=_INDEXED
        ),
        Variant(
            "policy",
            Guarded(_PAGE, _LARGEST, "session"),
            setup=(_BY_TENANT, _POLICY, *_SECURED),
            claim=_INDEXED,
            about="the tenant is set once, for the session",
        ),
        Variant(
            "WHERE, in a transaction",
            Guarded(_PAGE_WHERE, _LARGEST, "none", transaction=True),
            setup=(_BY_TENANT,),
            claim=_INDEXED,
            about="BEGIN and COMMIT are two more round trips",
        ),
        Variant(
            "policy, tenant by transaction",
            Guarded(_PAGE, _LARGEST, "transaction", transaction=True),
            setup=(_BY_TENANT, _POLICY, *_SECURED),
            claim=_INDEXED,
            about="as behind a pool: BEGIN, set_config(…, true), the query, COMMIT",
        ),
    ),
    sizes=_SIZES,
    unit="page",
    picture="bars",
    expected="The policy itself next to nothing: it becomes a condition of the index. Saying who "
    "the tenant is costs a round trip in each transaction.",
)

_READ_ALL: Final = Claim(scan=("Seq Scan",))
_COUNT: Final = "SELECT count(*) FROM messages"

_RLS_SCAN: Final = Case(
    name="rls-scan",
    group="encryption",
    question="What does a policy add where every row has to be read?",
    variants=(
        Variant(
            "WHERE", Guarded(f"{_COUNT} WHERE instance_id = %s", _SMALLEST, "none"), claim=_READ_ALL
        ),
        Variant(
            "policy",
            Guarded(_COUNT, _SMALLEST, "session"),
            setup=(_POLICY, *_SECURED),
            claim=_READ_ALL,
            about=f"{_TENANT}, evaluated for each row",
        ),
        Variant(
            "policy, evaluated once",
            Guarded(_COUNT, _SMALLEST, "session"),
            setup=(_POLICY_ONCE, *_SECURED),
            claim=_READ_ALL,
            about=f"(SELECT {_TENANT}): a subquery without references is evaluated once",
        ),
    ),
    sizes=_SIZES,
    unit="count",
    picture="bars",
    expected="Several times the plain condition where the setting is read and cast for each row, "
    "and no difference where it is read once.",
)

CASES: Final = (
    *(_by_payload(word, write=True) for word in _PAYLOADS),
    *(_by_payload(word, write=False) for word in _PAYLOADS),
    _S2K,
    _BLIND,
    _RLS_PAGE,
    _RLS_SCAN,
)
