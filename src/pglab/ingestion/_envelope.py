"""The batch and its envelopes: JSON in, events out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pglab.errors import IngestError
from pglab.ingestion._fields import Node

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Event", "decode"]


@dataclass(frozen=True, slots=True)
class Event:
    """An envelope's useful part. Its apikey, sender and addresses are never read."""

    name: str
    instance: str
    at: datetime
    data: Node


def decode(events: Iterable[Mapping[str, Any]] | Mapping[str, Any] | str | bytes) -> list[Node]:
    """Return the events, each with its place in the batch.

    Raises:
        IngestError: a text is not JSON, or the whole is neither an object nor an array.
    """
    whole: Any = events
    if isinstance(events, str | bytes | bytearray):
        try:
            whole = json.loads(events)
        except RecursionError:
            raise _not_json("it is nested too deeply") from None
        except UnicodeDecodeError as error:
            raise _not_json(f"byte {error.start} is not {error.encoding}") from None
        except json.JSONDecodeError as error:
            # Never the text itself: it may hold an apikey.
            where = f"line {error.lineno} column {error.colno}"
            raise _not_json(f"{error.msg} at {where}") from None
        except ValueError:
            raise _not_json("a number in it has thousands of digits") from None
    if isinstance(whole, Mapping):
        whole = [whole]
    elif isinstance(whole, str | bytes | bytearray) or not isinstance(whole, Iterable):
        raise Node(whole, "events").wrong("an event or an array of events")
    return [Node(event, f"events[{i}]") for i, event in enumerate(whole)]


def _not_json(reason: str) -> IngestError:
    return IngestError(
        f"events is not JSON: {reason}; nothing of the batch was stored", field="events"
    )
