"""MongoDB, or what speaks its protocol, through PyMongo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pglab.comparison.contract import AS_INSTALLED, EngineMissingError, Setup
from pglab.comparison.mongodb_session import MongodbSession
from pglab.comparison.workload import STATES
from pglab.errors import ConfigError

if TYPE_CHECKING:
    import pymongo
    from pymongo import errors
else:
    try:
        import pymongo
        from pymongo import errors
    except ImportError:  # said by MongodbEngine
        pymongo = None

__all__ = ["CAREFUL", "MongodbEngine"]

CAREFUL: Final = "with care"

_PREFIX = "pglab_comparison_"
_COLLECTIONS = ("instances", "chats", "messages")
_WAIT_MS = 5_000
_VALIDATORS = {
    "instances": {
        "required": ["_id", "state", "received"],
        "properties": {"state": {"bsonType": "string"}, "received": {"bsonType": ["int", "long"]}},
    },
    "messages": {
        "required": ["instance", "chat", "whatsapp_id", "from_me", "status", "event", "sent_at"],
        "properties": {
            "whatsapp_id": {"bsonType": "string", "maxLength": 40},
            "from_me": {"bsonType": "bool"},
            "status": {"enum": list(STATES)},
            "event": {"bsonType": "object"},
            "sent_at": {"bsonType": "date"},
        },
    },
}


class MongodbEngine:
    """A database of our own on a server.

    Args:
        address: of ``pymongo.MongoClient``: ``{"host": URL or name, "port": …}``, and our
            ``database`` there, if it is there already.

    Raises:
        EngineMissingError: PyMongo is not installed, or nothing answers.
    """

    name = "mongodb"
    library = False
    setups: Mapping[str, Setup] = {
        AS_INSTALLED: Setup("each call stands for itself"),
        CAREFUL: Setup(
            "calls are put into transactions, and collections have validators",
            frozenset(
                {
                    "all_or_nothing",
                    "schema_change_undone",
                    "wrong_values",
                    "broken_rules",
                    "no_anomaly",
                    "survives_kill",
                }
            ),
        ),
    }

    def __init__(self, address: Mapping[str, Any]) -> None:
        if pymongo is None:
            raise EngineMissingError("PyMongo is not installed; run: pip install pymongo")
        self._address = {name: value for name, value in address.items() if name != "database"}
        self._database = str(address.get("database", f"{_PREFIX}0"))
        self._made: set[str] = set()
        try:
            client = self._client()
        except (errors.PyMongoError, ValueError):
            # What it says of a URL may quote the password.
            raise ConfigError(
                "PGLAB_MONGODB_URL cannot be read; it must look like "
                "mongodb://user:password@host:27017, with special characters as %xx"
            ) from None
        with client:
            try:
                said = client.server_info()
            except errors.PyMongoError as error:
                problem = str(error).split(",")[0]
                raise EngineMissingError(
                    f"MongoDB does not answer ({problem}); see that it runs, and that address and "
                    "password in PGLAB_MONGODB_URL are right"
                ) from None
        secantus = said.get("secantusVersion")
        self.product = "SecantusDB" if secantus else "MongoDB"
        self.version = str(secantus or said["version"])

    def _client(self) -> pymongo.MongoClient[Any]:
        return pymongo.MongoClient(
            **self._address, serverSelectionTimeoutMS=_WAIT_MS, tz_aware=True, retryWrites=False
        )

    def prepare(self, setup: str) -> None:
        """Make the collections anew, in a new database: to drop one can take longer."""
        self._database = f"{_PREFIX}{len(self._made)}"
        with self._client() as client:
            if not self._made:
                self._drop(client)
            self._made.add(self._database)
            database = client[self._database]
            for name in _COLLECTIONS:
                rules = _VALIDATORS.get(name) if setup == CAREFUL else None
                options: dict[str, Any] = {}
                if rules is not None:
                    options["validator"] = {"$jsonSchema": {"bsonType": "object", **rules}}
                database.create_collection(name, **options)
            messages = database["messages"]
            messages.create_index([("instance", 1), ("whatsapp_id", 1)], unique=True)
            messages.create_index([("instance", 1), ("chat", 1), ("sent_at", -1)])
            messages.create_index([("chat", 1)])

    def index_json(self, setup: str) -> None:
        """Make an index on one path."""
        del setup
        with self._client() as client:
            client[self._database]["messages"].create_index([("event.id", 1)])

    @staticmethod
    def _drop(client: pymongo.MongoClient[Any]) -> None:
        for name in client.list_database_names():
            if name.startswith(_PREFIX):
                client.drop_database(name)

    def clear(self) -> None:
        """Remove all that we made."""
        with self._client() as client:
            self._drop(client)

    def connect(self, setup: str, *, patient: bool = False) -> MongodbSession:
        """Open a connection."""
        del patient  # what waits is retried by the server itself, or refused at once
        return MongodbSession(self._client(), self._database, transactions=setup == CAREFUL)

    def settings(self) -> int:
        """Return how many settings it knows, 0 where it does not tell."""
        with self._client() as client:
            try:
                found = client.admin.command({"getParameter": "*"})
            except errors.PyMongoError:
                return 0
        return len([name for name in found if not name.startswith("$") and name != "ok"])

    def json_kind(self) -> str:
        """Return how the event is stored, asked of a stored document."""
        with self._client() as client:
            kind = client[self._database]["messages"].aggregate(
                [{"$limit": 1}, {"$project": {"kind": {"$type": "$event"}}}]
            )
            found = next(iter(kind), {"kind": "nothing"})["kind"]
        return f"stored as {found} of BSON, with an index on one path"

    def address(self) -> dict[str, Any]:
        """Return PyMongo's parameters, and the database."""
        return {**self._address, "database": self._database}
