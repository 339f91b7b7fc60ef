"""One client of MongoDB's, with transactions or without."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pglab.comparison.contract import Refused, Row

if TYPE_CHECKING:
    import pymongo
    from pymongo import errors
    from pymongo.client_session import ClientSession
else:
    try:
        from pymongo import errors
    except ImportError:  # said by MongodbEngine
        errors = None

__all__ = ["MongodbSession"]

# The field of each collection that is its key.
_KEYS: Final = {"instances": "name", "chats": "id", "messages": "id"}
# https://www.mongodb.com/docs/manual/reference/error-codes/
_WRITE_CONFLICT, _VALIDATION = 112, 121


class MongodbSession:
    """One client; without transactions begin() does nothing, and so nothing can be undone."""

    def __init__(
        self, client: pymongo.MongoClient[Any], database: str, *, transactions: bool
    ) -> None:
        self._client = client
        self._database = client[database]
        self._transactions = transactions
        self._session: ClientSession | None = None

    def begin(self) -> None:
        """Begin a transaction, where this set-up has any."""
        if self._transactions:
            self._session = self._client.start_session()
            self._session.start_transaction()

    def commit(self) -> None:
        """End it."""
        session, self._session = self._session, None
        if session is not None:
            try:
                session.commit_transaction()
            except errors.PyMongoError as error:
                raise _refused(error) from error
            finally:
                session.end_session()

    def rollback(self) -> None:
        """Undo it, where there is one."""
        session, self._session = self._session, None
        if session is not None:
            session.end_session()  # which aborts what is open

    def insert(self, table: str, row: Row) -> None:
        """Store one document."""
        try:
            self._database[table].insert_one(_document(table, row), session=self._session)
        except errors.PyMongoError as error:
            raise _refused(error) from error

    def insert_many(self, table: str, rows: Sequence[Row]) -> None:
        """Store documents with one call."""
        try:
            self._database[table].insert_many([_document(table, row) for row in rows])
        except errors.PyMongoError as error:
            raise _refused(error) from error

    def update(self, table: str, where: Row, change: Row) -> None:
        """Set fields of the documents that have these values."""
        try:
            self._database[table].update_many(
                _document(table, where), {"$set": dict(change)}, session=self._session
            )
        except errors.PyMongoError as error:
            raise _refused(error) from error

    def add(self, instance: str, n: int = 1) -> None:
        """Count ``n`` more messages of an instance."""
        try:
            self._database["instances"].update_one(
                {"_id": instance}, {"$inc": {"received": n}}, session=self._session
            )
        except errors.PyMongoError as error:
            raise _refused(error) from error

    def delete(self, table: str, where: Row) -> None:
        """Remove the documents that have these values."""
        try:
            self._database[table].delete_many(_document(table, where), session=self._session)
        except errors.PyMongoError as error:
            raise _refused(error) from error

    def count(self, table: str, where: Row | None = None) -> int:
        """Return how many documents have these values."""
        try:
            return int(
                self._database[table].count_documents(
                    _document(table, where or {}), session=self._session
                )
            )
        except errors.PyMongoError as error:
            raise _refused(error) from error

    def values(self, table: str, column: str, where: Row) -> list[Any]:
        """Return a field of the documents that have these values."""
        field = "_id" if column == _KEYS.get(table) else column
        try:
            found = self._database[table].find(_document(table, where), session=self._session)
            return [document.get(field) for document in found]
        except errors.PyMongoError as error:
            raise _refused(error) from error

    def make_table(self, name: str) -> None:
        """Make one more collection."""
        try:
            self._database.create_collection(name, session=self._session, check_exists=False)
        except errors.PyMongoError as error:
            raise _refused(error) from error

    def tables(self) -> set[str]:
        """Return the names of all collections."""
        return set(self._database.list_collection_names())

    def inbox(self, instance: str) -> list[tuple[int, str]]:
        """Return the newest message of each chat."""
        found = self._database["messages"].aggregate(
            [
                {"$match": {"instance": instance}},
                {"$sort": {"chat": 1, "sent_at": -1, "_id": -1}},
                {"$group": {"_id": "$chat", "newest": {"$first": "$whatsapp_id"}}},
                {"$sort": {"_id": 1}},
            ]
        )
        return [(int(row["_id"]), str(row["newest"])) for row in found]

    def joined(self) -> list[tuple[str, str, int]]:
        """Return instance, chat and number of messages of each chat that has any."""
        found = self._database["chats"].aggregate([
            {"$lookup": {
                "from": "instances", "localField": "instance", "foreignField": "_id", "as": "of",
            }},
            {"$unwind": "$of"},
            {"$lookup": {
                "from": "messages", "localField": "_id", "foreignField": "chat", "as": "written",
            }},
            {"$project": {"of": "$of._id", "jid": 1, "n": {"$size": "$written"}}},
            {"$match": {"n": {"$gt": 0}}},
        ])  # fmt: skip
        return sorted((str(row["of"]), str(row["jid"]), int(row["n"])) for row in found)

    def by_id_in_json(self, identifier: str) -> tuple[int, int]:
        """Ask by the path into the document."""
        asked = {"event.id": identifier}
        plan = self._database.command(
            "explain", {"find": "messages", "filter": asked}, verbosity="executionStats"
        )
        found = self._database["messages"].count_documents(asked)
        return found, int(plan["executionStats"]["totalDocsExamined"])

    def close(self) -> None:
        """Close it."""
        with contextlib.suppress(errors.PyMongoError):  # the server is gone
            self.rollback()
        self._client.close()


def _document(table: str, row: Row) -> dict[str, Any]:
    key = _KEYS.get(table, "id")
    return {("_id" if name == key else name): value for name, value in row.items()}


def _refused(error: errors.PyMongoError) -> Refused:
    details = getattr(error, "details", None) or {}
    said = str(details.get("errmsg") or error)
    code = getattr(error, "code", None)
    if code == _WRITE_CONFLICT or error.has_error_label("TransientTransactionError"):
        return Refused(said, "conflict")
    if isinstance(error, errors.DuplicateKeyError):
        return Refused(said, "rule")
    return Refused(said, "value" if code == _VALIDATION else "other")
