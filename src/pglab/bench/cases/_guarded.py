"""A statement under row-level security, by a role that it holds for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pglab.bench.cases._encrypted import one
from pglab.bench.operations import Opened, Parameters

if TYPE_CHECKING:
    from pglab.bench.ground import Place

__all__ = ["Guarded"]


@dataclass(frozen=True)
class Guarded:
    """A statement asked by a role that row-level security holds for.

    A superuser is above it, so such a one becomes ``pg_read_all_data``, which every server has.

    Attributes:
        sql: the statement.
        whose: a query whose answer is the tenant.
        tenant: how the policy is told whose rows are wanted: ``none``: there is no policy, and the
            tenant is part of the statement as %s; ``session``: once; ``transaction``: by
            ``set_config(…, true)`` in each transaction, as a pool's clients must.
        transaction: put BEGIN and COMMIT around the statement.
    """

    sql: str
    whose: str
    tenant: Literal["none", "session", "transaction"]
    transaction: bool = False

    def open(self, place: Place, parameters: Sequence[Parameters]) -> Opened:  # noqa: ARG002
        """Become the role, and say who the tenant is."""
        connection = place.connection
        tenant = str(one(place, self.whose))
        if one(place, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            connection.execute("SET ROLE pg_read_all_data")
        connection.execute("SELECT set_config('pglab.tenant', %s, false)", [tenant])
        # A policy's statement has no parameter, so its plan is made once; so be the others'.
        connection.execute("SET plan_cache_mode = force_generic_plan")
        given = (tenant,) if self.tenant == "none" else ()
        cursor, text = connection.cursor(), self.sql.encode()
        execute, fetch = cursor.execute, cursor.fetchall

        def once(_: int) -> int:
            execute(text, given, prepare=True)
            return len(fetch())

        def in_a_transaction(_: int) -> int:
            execute(b"BEGIN", prepare=True)
            if self.tenant == "transaction":
                execute(b"SELECT set_config('pglab.tenant', %s, true)", (tenant,), prepare=True)
            execute(text, given, prepare=True)
            found = len(fetch())
            execute(b"COMMIT", prepare=True)
            return found

        return Opened(
            in_a_transaction if self.transaction else once,
            check=self.sql.replace("%s", f"'{tenant}'"),
            connection=connection,
        )
