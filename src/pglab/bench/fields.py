"""Fields of a JSON document, each with its type and its path: an error names where it is."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pglab.errors import ResultError

__all__ = ["Field", "plain"]

_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "true or false", int: "a count"}


@dataclass(frozen=True)
class Field:
    """A value of a JSON document.

    Attributes:
        value: as the parser gave it.
        path: where it stands, such as ``cases[0].sizes[1].variants``; empty for the whole.
    """

    value: Any
    path: str = ""

    def wrong(self, problem: str) -> ResultError:
        """Return the error that this value has a problem, such as ``is -1``."""
        return ResultError(f"{self.path or 'the document'} {problem}")

    def _of(self, kind: type) -> Any:
        # bool is an int to Python, and none to whoever counts.
        if not isinstance(self.value, kind) or (kind is int and isinstance(self.value, bool)):
            raise self.wrong(f"is {_short(self.value)}, and {_NAMES[kind]} is needed")
        return self.value

    def __getitem__(self, key: str) -> Field:
        found = self.object()
        path = f"{self.path}.{key}" if self.path else key
        if key not in found:
            raise Field(None, path).wrong("is missing")
        return Field(found[key], path)

    def __iter__(self) -> Iterator[Field]:
        for place, each in enumerate(self._of(list)):
            yield Field(each, f"{self.path}[{place}]")

    def object(self) -> dict[str, Any]:
        """Return an object's fields.

        Raises:
            ResultError: it is no object; so for the methods below, each with its type.
        """
        found: dict[str, Any] = self._of(dict)
        return found

    def text(self) -> str:
        """Return a string."""
        found: str = self._of(str)
        return found

    def flag(self) -> bool:
        """Return true or false."""
        found: bool = self._of(bool)
        return found

    def count(self, at_least: int = 0) -> int:
        """Return a whole number that is not below ``at_least``."""
        found: int = self._of(int)
        if found < at_least:
            raise self.wrong(f"is {_short(found)}, and cannot be below {at_least}")
        return found

    def number(self, *, positive: bool = False, negative: bool = False) -> float:
        """Return a finite number: not below 0, unless ``negative``; above 0 if ``positive``."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.wrong(f"is {_short(self.value)}, and a number is needed")
        try:
            found = float(self.value)
        except OverflowError:
            found = math.inf
        if not math.isfinite(found):
            raise self.wrong(f"is {_short(self.value)}, and no finite number")
        if (found < 0 and not negative) or (found == 0 and positive):
            raise self.wrong(f"is {found:g}, and must be {'above' if positive else 'at least'} 0")
        return found

    def optional(self) -> Field | None:
        """Return this field; None where it is null."""
        return None if self.value is None else self

    def texts(self) -> tuple[str, ...]:
        """Return a list of strings."""
        return tuple(each.text() for each in self)


def plain(value: object, path: str) -> Any:
    """Return a value as JSON knows it: mappings as dicts, sequences as lists, NumPy's numbers.

    Raises:
        ResultError: it holds NaN, an infinite number, or something that JSON cannot.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        if not math.isfinite(value):
            raise Field(value, path).wrong(f"is {float(value)}, and no finite number")
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise Field(value, path).wrong(f"has the key {key!r}; use a string")
        return {key: plain(each, f"{path}.{key}" if path else key) for key, each in value.items()}
    if isinstance(value, Sequence):
        return [plain(each, f"{path}[{place}]") for place, each in enumerate(value)]
    raise Field(value, path).wrong(
        f"is a {type(value).__name__}; a result holds numbers, strings, lists and mappings"
    )


def _short(value: object) -> str:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else ""
    text = text or ("null" if value is None else "an object" if isinstance(value, dict) else "")
    text = text or ("a list" if isinstance(value, list) else "")
    if not text:
        text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number"
    return text if len(text) <= 40 else f"{text[:39]}…"
