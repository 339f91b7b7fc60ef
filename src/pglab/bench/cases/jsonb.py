"""Containment in JSONB: without an index, by both kinds of GIN, by a B-tree on one path."""

from __future__ import annotations

from typing import Final

from pglab.bench.case import Case, Claim, Draw, Variant
from pglab.bench.operations import Query

__all__ = ["CASES"]

_CONTAINED: Final = Query(
    "SELECT id, sent_at, status, body FROM messages WHERE key @> %(document)s::jsonb"
)
# The same question as the planner must see it, to know the index: it compares what is written.
_BY_PATH: Final = Query(
    "SELECT id, sent_at, status, body FROM messages WHERE key ->> 'id' = %(id)s"
)

_KEY_CONTAINMENT: Final = Case(
    name="jsonb-containment",
    group="jsonb",
    question="Which index finds the message whose key document holds a given id?",
    variants=(
        Variant("no index", _CONTAINED, claim=Claim(scan=("Seq Scan",)), theory="O(n)"),
        Variant(
            "jsonb_ops",
            _CONTAINED,
            setup=("CREATE INDEX messages_key_ops ON messages USING gin (key)",),
            claim=Claim(index="messages_key_ops"),
            about="GIN over every key and every value, each on its own. Serves any @>, and ?.",
        ),
        Variant(
            "jsonb_path_ops",
            _CONTAINED,
            setup=(
                "CREATE INDEX messages_key_path_ops ON messages USING gin (key jsonb_path_ops)",
            ),
            claim=Claim(index="messages_key_path_ops"),
            theory="O(log n)",
            about="GIN over one hash for each value with its path. Serves any @>.",
        ),
        Variant(
            "B-tree on the path",
            _BY_PATH,
            setup=("CREATE INDEX messages_key_id ON messages ((key ->> 'id'))",),
            claim=Claim(index="messages_key_id"),
            theory="O(log n)",
            about="An expression index on key ->> 'id': one path, and only in this spelling.",
        ),
    ),
    parameters=Draw(
        # The document as text: psycopg gives jsonb as a dictionary, and takes none back.
        "SELECT jsonb_build_object('id', key -> 'id')::text AS document, key ->> 'id' AS id "
        "FROM messages WHERE id % GREATEST(1, {size} / 5000) = 0 ORDER BY id"
    ),
    expected="Any of the three is far faster than none. Of the GIN indexes jsonb_path_ops touches "
    "fewer pages, because a hash of the whole path brings nothing in vain, and the B-tree the "
    "fewest; but it serves one path only.",
)

CASES: Final = (_KEY_CONTAINMENT,)
"""One question, selective: an id that one message has."""
