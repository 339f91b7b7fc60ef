"""The models describe the tables that schema.sql makes, name by name."""

from __future__ import annotations

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, Enum, ForeignKeyConstraint, Identity, create_engine, select
from sqlalchemy.orm import Session as OrmSession

from pglab import models, schema

pytestmark = pytest.mark.server

TABLES = models.Base.metadata.tables


@pytest.fixture
def created(database):
    with psycopg.connect(database) as connection:
        schema.create(connection)
    return database


@pytest.fixture
def engine(created):
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(created))
    yield engine
    engine.dispose()


def rows(url, query):
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def test_alembic_finds_no_difference(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, models.Base.metadata) == []


def test_the_models_are_the_tables_of_the_schema():
    assert sorted(TABLES) == sorted(schema.TABLES)


def test_every_constraint_and_index_has_the_same_name(created):
    named = {
        (table.name, constraint.name)
        for table in TABLES.values()
        for constraint in table.constraints
    }
    assert named == set(
        rows(
            created,
            "SELECT conrelid::regclass::text, conname FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace AND contype <> 'n'",
        )
    )
    indexes = {(t.name, index.name) for t in TABLES.values() for index in t.indexes}
    assert indexes == set(
        rows(
            created,
            "SELECT indrelid::regclass::text, indexrelid::regclass::text FROM pg_index"
            " JOIN pg_class ON oid = indexrelid WHERE relnamespace = 'public'::regnamespace"
            " AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)",
        )
    )


def test_every_check_says_the_same(engine, created):
    """PostgreSQL reads both texts: ours are added beside its own, then compared as stored."""
    with engine.begin() as connection:
        for table in TABLES.values():
            for check in table.constraints:
                if isinstance(check, CheckConstraint):
                    connection.exec_driver_sql(
                        f"ALTER TABLE {table.name} ADD CONSTRAINT ours_{check.name}"
                        f" CHECK ({check.sqltext})"
                    )
    pairs = rows(
        created,
        "SELECT theirs.conname, pg_get_constraintdef(theirs.oid), pg_get_constraintdef(ours.oid)"
        " FROM pg_constraint theirs JOIN pg_constraint ours"
        " ON ours.conname = 'ours_' || theirs.conname",
    )
    assert len(pairs) == 16
    assert [(name, theirs) for name, theirs, _ in pairs] == [(name, o) for name, _, o in pairs]


def test_every_enum_has_the_same_labels_in_order(created):
    ours = {
        column.type.name: column.type.enums
        for table in TABLES.values()
        for column in table.columns
        if isinstance(column.type, Enum)
    }
    theirs = rows(
        created,
        "SELECT typname, array_agg(enumlabel::text ORDER BY enumsortorder)"
        " FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid GROUP BY typname",
    )
    assert ours == dict(theirs)


def test_every_identity_and_every_deletion_rule_is_the_same(created):
    ours = {
        (table.name, column.name, "a" if column.identity.always else "d")
        for table in TABLES.values()
        for column in table.columns
        if isinstance(column.identity, Identity)
    }
    assert ours == set(
        rows(
            created,
            "SELECT attrelid::regclass::text, attname, attidentity::text FROM pg_attribute"
            " JOIN pg_class ON pg_class.oid = attrelid"
            " WHERE attidentity <> '' AND relnamespace = 'public'::regnamespace",
        )
    )
    deletions = {
        (constraint.name, constraint.ondelete)
        for table in TABLES.values()
        for constraint in table.constraints
        if isinstance(constraint, ForeignKeyConstraint)
    }
    assert deletions == set(
        rows(
            created,
            "SELECT conname, CASE confdeltype WHEN 'c' THEN 'CASCADE' ELSE confdeltype::text END"
            " FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace",
        )
    )


def test_a_conversation_can_be_written_and_read_through_the_models(engine):
    with OrmSession(engine) as session:
        instance = models.Instance(
            name="sciencebot-production",
            session=models.Session(credentials=b"ciphertext"),
            chats=[
                models.Chat(
                    jid="51900000001@s.whatsapp.net",
                    kind=models.ChatKind.person,
                    messages=[],
                )
            ],
        )
        session.add(instance)
        session.flush()
        chat = instance.chats[0]
        chat.messages.append(
            models.Message(
                instance_id=instance.id,
                whatsapp_id="3EB0",
                from_me=True,
                message_type=models.MessageType.text,
                key={"id": "3EB0"},
                message={"conversation": "hola"},
                sent_at=instance.created_at,
            )
        )
        session.commit()
    with OrmSession(engine) as session:
        message = session.scalars(select(models.Message)).one()
        assert message.status is models.MessageStatus.pending
        assert message.message == {"conversation": "hola"}
        assert message.chat.instance.connection_state is models.ConnectionState.close
        assert message.sent_at.tzinfo is not None
        session.delete(message.chat.instance)
        session.commit()
        assert session.scalars(select(models.Message)).all() == []
