"""The same look-up through each layer, from libpq up to an ORM's session for every request.

All layers ask for the same nine columns of the same rows in the same order, and all wait for the
same plan; what differs is who decodes the answer, and into what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pglab.bench.case import Case, Claim, Draw, Variant
from pglab.bench.ground import Place
from pglab.bench.operations import Opened, Parameters, Query, positional, values

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.orm import Session

    from pglab.models import Message

__all__ = ["CASES", "COLUMNS", "Orm"]

COLUMNS: Final = (
    "id", "whatsapp_id", "sent_at", "from_me", "sender_jid", "status", "body", "edited_at",
    "deleted_at",
)  # fmt: skip
"""What every layer asks for."""

What = Literal["message", "page"]

_SQL: Final[Mapping[What, str]] = {
    "message": f"SELECT {', '.join(COLUMNS)} FROM messages WHERE id = %(id)s",  # noqa: S608 (ours)
    "page": f"SELECT {', '.join(COLUMNS)} FROM messages WHERE chat_id = %(chat_id)s "  # noqa: S608
    "ORDER BY sent_at DESC, id DESC LIMIT 50",
}
_DRAWS: Final[Mapping[What, Draw]] = {
    "message": Draw("SELECT id FROM messages ORDER BY id"),
    "page": Draw(
        "SELECT chat_id FROM messages GROUP BY chat_id HAVING count(*) >= 50 ORDER BY chat_id"
    ),
}
_CLAIMS: Final[Mapping[What, Claim]] = {
    "message": Claim(scan=("Index Scan",), index="messages_pkey"),
    "page": Claim(index="messages_chat_id_sent_at_idx"),
}


@dataclass(frozen=True)
class Orm:
    """SQLAlchemy's ORM: whole objects of the class ``Message``.

    Attributes:
        what: which look-up.
        session: ``held`` for all look-ups, in autocommit mode; or a new one ``each`` time, as a web
            request has it: a connection out of the pool, BEGIN, the look-up, ROLLBACK.
    """

    what: What
    session: Literal["held", "each"]

    def open(self, place: Place, parameters: Sequence[Parameters]) -> Opened:
        """Make the engine, and the session that is held."""
        ask = self.asked(place, parameters)
        check = str(_select(self.what).compile(dialect=place.engine().dialect))
        if self.session == "held":
            # The connection that was opened last is the session's; it prepares, as psycopg does.
            return Opened(
                lambda i: len(ask(i)),
                statement=positional(check)[0],
                check=check,
                connection=place.connections[-1],
            )
        return Opened(lambda i: len(ask(i)), check=check, connection=place.connection)

    def asked(
        self, place: Place, parameters: Sequence[Parameters]
    ) -> Callable[[int], Sequence[Message]]:
        """Return what does look-up number i."""
        from sqlalchemy.orm import Session

        names = positional(_SQL[self.what])[1]
        given = [dict(zip(names, values(each, names), strict=True)) for each in parameters]
        statement, count = _select(self.what), len(given)
        if self.session == "each":
            engine = place.engine("READ COMMITTED")
            # The pool keeps this connection: no look-up waits for a new one.
            engine.connect().close()

            def scope() -> AbstractContextManager[Session]:
                return Session(engine)

        else:
            held = Session(place.sqlalchemy_connection())

            def scope() -> AbstractContextManager[Session]:
                return nullcontext(held)

        def ask(i: int) -> Sequence[Message]:
            with scope() as session:
                found = session.scalars(statement, given[i % count]).all()
                # Else the next look-up would find these objects in the session, and not build them.
                session.expunge_all()
                return found

        return ask


def _select(what: What) -> Select[Message]:
    from sqlalchemy import bindparam, literal_column, select
    from sqlalchemy.orm import load_only

    from pglab.models import Message

    columns = load_only(*(getattr(Message, name) for name in COLUMNS))
    if what == "message":
        return select(Message).options(columns).where(Message.id == bindparam("id"))
    return (
        select(Message)
        .options(columns)
        .where(Message.chat_id == bindparam("chat_id"))
        .order_by(Message.sent_at.desc(), Message.id.desc())
        # Written into the statement, as the others have it.
        .limit(literal_column("50"))
    )


def _variants(what: What) -> tuple[Variant, ...]:
    sql, claim = _SQL[what], _CLAIMS[what]
    return (
        Variant("libpq", Query(sql), claim=claim, about="prepared; the answer is counted"),
        Variant(
            "libpq, simple protocol",
            Query(sql, meter="simple"),
            claim=claim,
            about="the values written into the text, which is parsed and planned each time",
        ),
        Variant(
            "psycopg cursor",
            Query(sql, meter="cursor"),
            claim=claim,
            about="prepared; rows decoded into tuples of Python's values",
        ),
        Variant(
            "SQLAlchemy Core",
            Query(sql, meter="core"),
            claim=claim,
            about="a held connection in autocommit mode, text() and rows",
        ),
        Variant(
            "ORM, held session",
            Orm(what, "held"),
            claim=claim,
            about="objects, expunged each time, so that the identity map does not answer",
        ),
        Variant(
            "ORM, a session each",
            Orm(what, "each"),
            claim=claim,
            about="objects; a session for each look-up, in a transaction of its own: BEGIN and "
            "ROLLBACK are two more round trips, and after a ROLLBACK psycopg forgets what it has "
            "prepared",
        ),
    )


CASES: Final = (
    Case(
        name="stack-message",
        question="What does each layer above libpq add to the look-up of one message?",
        variants=_variants("message"),
        twins={},
        parameters=_DRAWS["message"],
        sizes=(100_000, 1_000_000),
        group="stack",
        picture="bars",
        expected="libpq 1, simple protocol 1.3, cursor 1.2 (1.4 on one core), Core 2.0 (3.6), ORM "
        "2.7 (5.7), with a session each 8 (14) times (shared/reference/benchmarking.md)",
    ),
    Case(
        name="stack-page",
        question="What does each layer above libpq add to a chat's page of 50 messages?",
        variants=_variants("page"),
        twins={},
        parameters=_DRAWS["page"],
        sizes=(100_000, 1_000_000),
        group="stack",
        picture="bars",
        expected="cursor 1.3, Core 1.9, ORM 3.0, with a session each 5.7 times libpq on two cores "
        "(shared/reference/benchmarking.md): the more the server does, the less a layer weighs",
    ),
)
