"""A progress bar over a whole run, with the time left."""

from __future__ import annotations

from collections.abc import Sequence

from pglab.closeable import Closeable
from pglab.load.progress import bar

__all__ = ["Progress"]

# A size costs its loading and its twins, besides the rounds.
_MESSAGES_A_STEP = 20_000


class Progress(Closeable):
    """Steps weighted by what they take: long scans of large tables longer than small ones."""

    def __init__(self, steps: Sequence[tuple[str, int, int]], *, rounds: int, wanted: bool) -> None:
        self._weights = {
            (name, size): variants * (1 + size / _MESSAGES_A_STEP) for name, size, variants in steps
        }
        self._rounds = rounds
        self._bar = bar(round(sum(self._weights.values())), "benchmark", wanted=wanted)
        self._bar.unit = " steps"
        self._done = 0.0

    def say(self, what: str) -> None:
        """Show what is being done now."""
        self._bar.set_description(what)

    def round(self, name: str, size: int) -> None:
        """Count one finished round of a case at a size."""
        self._bar.set_description(f"{name} at {size:,}")
        before = round(self._done)
        self._done += self._weights[name, size] / self._rounds
        self._bar.update(round(self._done) - before)

    def close(self) -> None:
        """End the bar."""
        self._bar.close()
