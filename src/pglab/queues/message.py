"""What a queue hands out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pglab.errors import ConfigError

__all__ = ["DeadLetter", "Message", "as_json"]


@dataclass(frozen=True, slots=True)
class Message:
    """A message that was received, and is to be acknowledged.

    Attributes:
        id: the queue's name for it; the same at each delivery.
        body: what was published.
        key: the idempotency key that it was published with; empty if none.
        attempts: how often it was handed out, this time included.
        receipt: shows that it was handed out to us, and not to another since; empty where the
            queue needs none.
    """

    id: str
    body: dict[str, Any]
    key: str = ""
    attempts: int = 1
    receipt: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up.

    Attributes:
        id: the queue's name for the dead letter.
        body: what was published.
        key: its idempotency key.
        attempts: how often it had been handed out.
        reason: why it was given up.
    """

    id: str
    body: dict[str, Any]
    key: str
    attempts: int
    reason: str


def as_json(body: Mapping[str, Any]) -> str:
    """Return a body as JSON.

    Raises:
        ConfigError: JSON cannot hold it, or PostgreSQL's jsonb could not.
    """
    try:
        text = json.dumps(dict(body), ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"a message is no JSON: {error}; publish what json.dumps takes") from None
    if "\\u0000" in text.replace("\\\\", ""):
        raise ConfigError("a message holds NUL, which jsonb cannot; leave it out")
    return text
