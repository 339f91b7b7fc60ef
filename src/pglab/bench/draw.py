"""Drawing parameters from the data, the same for every variant of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from psycopg.rows import dict_row, tuple_row

from pglab.errors import BenchError

if TYPE_CHECKING:
    import psycopg

    from pglab.bench.case import Draw
    from pglab.bench.operations import Parameters

__all__ = ["Drawn", "draw", "zipf_ranks"]


class Drawn(list["Parameters"]):
    """Parameters in the order of their use, and which of them nothing has.

    Attributes:
        absent: for each of them whether it was drawn to miss.
        candidates: how many different ones there were to draw from.
    """

    def __init__(self, parameters: list[Any], absent: list[bool], candidates: int) -> None:
        super().__init__(parameters)
        self.absent = absent
        self.candidates = candidates

    def misses(self, first: int, count: int) -> int:
        """Return how many of the operations from ``first`` on were drawn to miss."""
        if not self:
            return 0
        return sum(self.absent[i % len(self)] for i in range(first, first + count))


def draw(
    connection: psycopg.Connection[Any], how: Draw | None, *, names: bool, seed: int, size: int
) -> Drawn:
    """Return the parameters that a case asks for.

    Args:
        connection: on which the queries find their tables.
        how: None for statements without parameters.
        names: the statement has named placeholders, so each set is a dictionary.
        seed: the same seed and data draw the same.
        size: messages, for ``{size}`` in the queries.

    Raises:
        BenchError: a query finds nothing.
    """
    if how is None:
        return Drawn([], [], 0)
    rng = np.random.default_rng(seed)
    found = _rows(connection, how.query, names, size)
    picked = (
        zipf_ranks(rng, len(found), how.count, how.exponent)
        if how.how == "zipf"
        else rng.integers(0, len(found), how.count)
    )
    parameters = [found[i] for i in picked]
    absent = rng.random(how.count) < how.misses
    if absent.any():
        nothing = _rows(connection, how.absent, names, size)
        for i in np.flatnonzero(absent):
            parameters[i] = nothing[rng.integers(len(nothing))]
    return Drawn(parameters, absent.tolist(), len(found))


def zipf_ranks(
    rng: np.random.Generator, candidates: int, count: int, exponent: float
) -> NDArray[np.int64]:
    """Return ranks from 0, drawn with P(rank) proportional to 1/(rank + 1)**exponent.

    By inverting the distribution function, so that exponents of 1 and below work too, which
    ``numpy``'s own ``zipf`` refuses.
    """
    running = np.cumsum(1.0 / np.arange(1, candidates + 1) ** exponent)
    ranks: NDArray[np.int64] = np.searchsorted(
        running, rng.random(count) * running[-1], side="right"
    )
    return ranks


def _rows(
    connection: psycopg.Connection[Any], query: str, names: bool, size: int
) -> list[Parameters]:
    text = query.replace("{size}", str(size)).encode()
    found: list[Any] = (
        connection.cursor(row_factory=dict_row if names else tuple_row)
        .execute(text, prepare=False)
        .fetchall()
    )
    if not found:
        raise BenchError(
            f"no parameters: {' '.join(query.split())!r} finds nothing at {size:,} messages; "
            "choose a larger --size, or correct the query"
        )
    return found
