"""How numbers are written in sentences and tables."""

from __future__ import annotations

__all__ = ["in_ms", "number", "pages", "percent", "rows"]


def in_ms(ms: float) -> str:
    """Return a time with three significant digits: 0.42 ms, 12.3 ms, 1,240 ms."""
    if ms < 1:
        return f"{ms:.2g} ms"
    return f"{ms:.3g} ms" if ms < 100 else f"{ms:,.0f} ms"


def percent(share: float, *, short_of_all: bool = False) -> str:
    """Return a share of 1 as a percentage, never 100 % ``short_of_all``."""
    text = f"{share * 100:.0f} %"
    # 49,990 of 50,000 is not "100 %" where some were kept.
    return f"{min(share * 100, 99.99):.2f} %" if short_of_all and text == "100 %" else text


def number(count: float) -> str:
    """Return a count, with a decimal only where a mean is small and broken."""
    return f"{count:,.0f}" if count >= 10 or count == int(count) else f"{count:.1f}"


def rows(count: float) -> str:
    """Return ``1 row`` or ``2,000 rows``."""
    return f"{number(count)} row{'' if count == 1 else 's'}"


def pages(count: int) -> str:
    """Return ``1 page`` or ``2,000 pages``."""
    return f"{count:,} page{'' if count == 1 else 's'}"
