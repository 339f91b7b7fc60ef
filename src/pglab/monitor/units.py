"""Numbers as people read them."""

from __future__ import annotations

__all__ = ["count", "duration", "percent", "size"]

_BINARY = ("B", "kB", "MB", "GB", "TB", "PB")


def size(value: float | None) -> str:
    """Return bytes in PostgreSQL's units, of which 1 kB is 1,024 bytes: 1,536 is ``1.5 kB``."""
    if value is None:
        return "?"
    number, unit = float(value), 0
    while abs(number) >= 1024 and unit < len(_BINARY) - 1:
        number, unit = number / 1024, unit + 1
    digits = 0 if unit == 0 or abs(number) >= 100 else 1
    return f"{number:,.{digits}f} {_BINARY[unit]}"


def duration(seconds: float | None) -> str:
    """Return seconds in two units at most: ``80 µs``, ``12 s``, ``2 h 4 min``."""
    if seconds is None:
        return "?"
    if 0 < seconds < 0.001:
        return f"{seconds * 1_000_000:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    whole = round(seconds)
    for name, length, rest, lesser in (
        ("d", 86_400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= length:
            more = whole % length // lesser
            return f"{whole // length:,} {name}" + (f" {more} {rest}" if more else "")
    return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"


def count(number: float, one: str, many: str = "") -> str:
    """Return a number with its noun: ``1 session``, ``1,200 sessions``."""
    noun = one if number == 1 else many or f"{one}s"
    return f"{number:,.0f} {noun}"


def percent(part: float, whole: float) -> str:
    """Return a share, such as ``93.4 %``; a dash where there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "–"
