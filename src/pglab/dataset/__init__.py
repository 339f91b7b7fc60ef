"""Believable conversations of a university's admissions bot, the same everywhere.

The same size and seed give byte-identical rows on every platform and with every NumPy: the values
are hashes of (seed, purpose, row number), computed in integers. Any stretch of rows can be made on
its own. All names, numbers and sentences are invented.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pglab.dataset.columns import Batch, Column
from pglab.dataset.directory import Directory
from pglab.dataset.messages import Messages
from pglab.dataset.plan import Plan
from pglab.dataset.rhythm import END, START
from pglab.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DEFAULT_SEED", "END", "SIZES", "START", "TABLES", "Batch", "Column", "Dataset"]

SIZES: Final[Mapping[str, int]] = MappingProxyType(
    {"tiny": 2_000, "small": 50_000, "medium": 1_000_000, "large": 10_000_000}
)
DEFAULT_SEED: Final = 22
FEWEST_MESSAGES: Final = 500
# In an order in which every row finds the row that it refers to.
TABLES: Final = ("instances", "sessions", "webhooks", "contacts", "chats", "messages")
# Small enough for a batch to stay in a processor's cache, large enough to amortise NumPy's calls.
_BATCH_ROWS = 2_048


class Dataset:
    """All rows of one size and seed, computed when they are asked for.

    Args:
        size: a name in SIZES, or a number of messages (at least 500).
        seed: any integer; another seed gives other rows of the same kind.

    Raises:
        ConfigError: no such size.
    """

    def __init__(self, size: str | int = "small", seed: int = DEFAULT_SEED) -> None:
        if isinstance(size, str):
            if size not in SIZES:
                known = ", ".join(f"{name} ({count:,})" for name, count in SIZES.items())
                raise ConfigError(
                    f"there is no size {size!r}; use one of {known}, or a number of messages"
                )
            self.size = size
            self.message_count = SIZES[size]
        else:
            if size < FEWEST_MESSAGES:
                raise ConfigError(
                    f"{size:,} messages are too few for six instances; "
                    f"ask for {FEWEST_MESSAGES:,} or more"
                )
            self.size = f"{size:,}"
            self.message_count = size
        self.seed = seed

    def __repr__(self) -> str:
        return f"Dataset({self.size}, {self.message_count:,} messages, seed={self.seed})"

    @cached_property
    def _plan(self) -> Plan:
        return Plan(self.message_count, self.seed)

    @cached_property
    def _directory(self) -> Directory:
        return Directory(self._plan)

    @cached_property
    def _messages(self) -> Messages:
        return Messages(self._plan, self._directory)

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """The number of rows of each table."""
        return MappingProxyType(
            {
                "instances": len(self.instances()),
                "sessions": len(self.sessions()),
                "webhooks": len(self.webhooks()),
                "contacts": len(self._plan.contact_serial),
                "chats": len(self._plan.chat_is_group),
                "messages": self.message_count,
            }
        )

    def instances(self) -> Batch:
        """Return all instances."""
        return self._directory.instances()

    def sessions(self) -> Batch:
        """Return all sessions."""
        return self._directory.sessions()

    def webhooks(self) -> Batch:
        """Return all webhooks."""
        return self._directory.webhooks()

    def contacts(self, start: int = 0, stop: int | None = None) -> Batch:
        """Return the contacts from ``start`` to ``stop``, counted from 0."""
        return self._directory.contacts(*self._span("contacts", start, stop))

    def chats(self, start: int = 0, stop: int | None = None) -> Batch:
        """Return the chats from ``start`` to ``stop``, counted from 0."""
        return self._directory.chats(*self._span("chats", start, stop))

    def messages(self, start: int = 0, stop: int | None = None) -> Batch:
        """Return the messages from ``start`` to ``stop``, counted from 0."""
        return self._messages.batch(*self._span("messages", start, stop))

    def batches(self, table: str, rows: int = _BATCH_ROWS) -> Iterator[Batch]:
        """Yield a table in batches of at most ``rows`` rows, in the order of its key."""
        if table in {"instances", "sessions", "webhooks"}:
            yield getattr(self, table)()
            return
        for start in range(0, self.counts[table], rows):
            yield getattr(self, table)(start, min(start + rows, self.counts[table]))

    def sample(self, n: int = 10, table: str = "messages") -> pd.DataFrame:
        """Return ``n`` rows spread evenly over a table, as a DataFrame."""
        import pandas as pd

        total = self.counts[table]
        if table in {"instances", "sessions", "webhooks"}:
            batch: Batch = getattr(self, table)()
            return pd.DataFrame(list(batch.rows())[:n], columns=list(batch.columns))
        one = getattr(self, table)
        picked = [one(row, row + 1) for row in range(0, total, max(1, total // n))][:n]
        return pd.DataFrame(
            [row for batch in picked for row in batch.rows()], columns=list(picked[0].columns)
        )

    def _span(self, table: str, start: int, stop: int | None) -> tuple[int, int]:
        total = self.counts[table]
        stop = total if stop is None else stop
        if not 0 <= start <= stop <= total:
            raise IndexError(f"{table} has rows 0 to {total:,}; {start:,} to {stop:,} is outside")
        return start, stop
