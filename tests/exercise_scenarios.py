"""Scenarios for tests of the engine: a process of their own imports them by name."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pglab.errors import ServerStartError
from pglab.exercises import Answer, World, error_of, expect


def doubles(answer: Answer, world: World) -> None:
    got = answer.double(4)
    expect(got + 0 == 8, "Eight is asked for.", f"double(4) → {got!r}")


def swallows_what_it_can(answer: Answer, world: World) -> None:
    def call_back() -> None:
        expect(False, "Called back.")

    expect(error_of(lambda: answer.double(call_back)) is None, "An error came.")


def looks_into_the_database(answer: Answer, world: World) -> None:
    connection, other = world.connect(), world.connect(autocommit=True)
    got = answer.count(connection)
    wanted = other.execute("SELECT count(*) FROM messages").fetchone()
    expect(wanted == (got,), "That is not the number of messages.", f"{got!r}, {world.data}")
    expect(other.execute("SELECT n FROM from_the_set_up").fetchone() == (7,), "No set-up.")


def two_sessions(answer: Answer, world: World) -> None:
    first, second = world.connect(), world.connect()
    first.execute("SELECT FROM instances FOR UPDATE")
    answer.lock(second)


def keeps_in_redis(answer: Answer, world: World) -> None:
    seen: list[str] = []
    redis = world.redis(after=lambda words: seen.append(" ".join(map(str, words))))
    answer.keep(redis)
    expect(world.redis().get("k") == "v", "Redis does not hold it.", "\n".join(seen))
    kept = [words for words in seen if words.startswith(("SET", "GET", "EXEC", "MULTI", "WATCH"))]
    expect(kept == ["WATCH k", "GET k", "MULTI", "SET k v", "EXEC"], "Other steps.", str(seen))
    server = world.redis_server
    server.kill()
    expect(error_of(lambda: answer.keep(world.redis())) is not None, "It must be dead.")
    server.start()
    expect(world.redis().get("k") is None, "It came back with data.")


def leaves_a_note(answer: Answer, world: World) -> None:
    """Write down where things were, for the test to see that they are gone."""
    facts = {"pid": os.getpid(), "directory": str(Path.cwd())}
    facts["socket"] = str(world.redis_server.socket)
    facts["redis"] = world.redis().info("server")["process_id"]
    Path(answer.note).write_text(json.dumps(facts))
    answer.last()


def needs_what_is_not_there(answer: Answer, world: World) -> None:
    raise ServerStartError("no server starts on this machine")


def is_faulty(answer: Answer, world: World) -> None:
    answer.double(1)
    raise KeyError("a fault of the author's")


def connects_without_saying_so(answer: Answer, world: World) -> None:
    world.connect()


def all_at_once(answer: Answer, world: World) -> None:
    got = world.together(*[lambda n=n: answer.double(n) for n in range(8)])
    expect(got == [2 * n for n in range(8)], "Not in order.", str(got))
