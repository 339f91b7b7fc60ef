"""Names of cached objects: a kind of object, the version of its format, and its identity.

``KeySpace("session", version=3).name("5511@g.us")`` is ``session:v3:5511@g.us``.
Raise the version when the value's type changes: old entries are then never looked at again.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote
from uuid import UUID

from pglab.errors import ConfigError

__all__ = ["KeySpace", "Part"]

Part = str | int | UUID
"""What a key may be made of."""

# What needs no quoting: nothing that separates parts, or that a glob would read.
_PLAIN: Final = re.compile(r"[A-Za-z0-9@._~-]{1,200}")
_LONGEST: Final = 200
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class KeySpace:
    """All keys of one kind of object.

    A part's text is its identity: 7 and "7" are one key, as they are in Redis. Within a space, use
    one type of part.

    Attributes:
        kind: a word for the object, such as ``session``.
        version: of the value's format, from 0.
        prefix: what stands before it, such as a lesson's ``lab.key()``; taken as it is.
    """

    kind: str
    version: int = 1
    prefix: str = ""
    _stem: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.kind):
            raise ConfigError(
                f"key space {self.kind!r} is no name; use up to 64 letters, digits, - and _, such "
                'as "session"'
            )
        if type(self.version) is not int or self.version < 0:
            raise ConfigError(f"version {self.version!r} is not a whole number from 0; use 1")
        if any(ord(sign) < 33 or ord(sign) == 127 for sign in self.prefix):
            raise ConfigError(f"prefix {self.prefix!r} holds a space or a control; leave them out")
        stem = f"{self.prefix}:" if self.prefix else ""
        object.__setattr__(self, "_stem", f"{stem}{self.kind}:v{self.version}:")

    def name(self, key: Part | tuple[Part, ...]) -> str:
        """Return the key's name in Redis, ASCII without spaces, at most 200 characters a part.

        Colons, spaces, ``%`` and everything outside ASCII are percent-encoded as in a URL, so that
        two keys never share a name. A part that is longer then becomes ``#`` and its SHA-256.

        Args:
            key: a part, or a tuple of them.

        Raises:
            ConfigError: a part is empty, of another type, or holds NUL or half a surrogate pair,
                which PostgreSQL's text cannot hold either.
        """
        if type(key) is str and _PLAIN.fullmatch(key):
            return self._stem + key
        if type(key) is tuple:
            if not key:
                raise ConfigError("a key of no parts names nothing; give at least one")
            return self._stem + ":".join(map(_quoted, key))
        return self._stem + _quoted(key)  # type: ignore[arg-type]


def _quoted(part: Part) -> str:
    if isinstance(part, UUID) or type(part) is int:
        return str(part)
    if not isinstance(part, str):
        raise ConfigError(
            f"a key's part is a {type(part).__name__}, {part!r:.80}; use str, int or UUID"
        )
    if not part:
        raise ConfigError("a key's part is empty, and would name no object; leave it out")
    if "\0" in part:
        raise ConfigError(
            f"a key's part holds NUL at position {part.index(chr(0))}, {part!r:.80}; PostgreSQL's "
            "text cannot hold it: no such object exists"
        )
    try:
        text = quote(part, safe="@")
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"a key's part holds half a surrogate pair at position {error.start}, {part!r:.80}; it "
            "is no text, so that no such object exists"
        ) from None
    if len(text) <= _LONGEST:
        return text
    # quote() never lets a # through, so that no short part looks like this.
    return f"#{hashlib.sha256(part.encode()).hexdigest()}"
