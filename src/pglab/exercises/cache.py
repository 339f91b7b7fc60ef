"""The exercises of lesson 07."""

from __future__ import annotations

import builtins
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg import pq
from psycopg.types.json import Jsonb

from pglab.exercises import (
    Accepts,
    Answer,
    Behaves,
    NotYet,
    Problem,
    Solution,
    State,
    World,
    Wrong,
    error_of,
    expect,
)
from pglab.exercises._play import CELL

__all__ = ["PROBLEMS"]

# 1

_PARTS: Final = (
    *(("a", "b"), ("a:b",), ("a:", "b"), ("a", ":b"), ("a", "b", ""), ("", "a", "b"), ("",)),
    *(("a%3Ab",), ("a%b",), ("a_b",), ("a-b",), ("a|b",), ("a\\:b",), ("a/b",), ("A", "b")),
    *(("a b",), ("a\nb",), ("a\0b",), ("é",), ("e\u0301",), ("🤖",), ("*",), ('a", "b',), ("a,b",)),
)


def _hash_tells(value: object, hash_of: Callable[[object], int] = hash) -> int:
    if sys._getframe(1).f_code.co_filename == CELL:  # noqa: SLF001 - as inspect does it
        raise NotYet(
            "hash() of a str is another number in each process, so that no other program would "
            "find what this one stored."
        )
    return hash_of(value)


def _keys_differ(answer: Answer, world: World) -> None:  # noqa: ARG001 - as all scenarios
    builtins.hash = _hash_tells
    keys: dict[str, tuple[str, ...]] = {}
    for parts in _PARTS:
        key = answer.cache_key("settings", 2, *parts)
        expect(isinstance(key, str), "The key is to be a str.", repr(key))
        seen = f'cache_key("settings", 2, {", ".join(map(ascii, parts))})\n→ {key!a}'
        expect(key.startswith("settings:v2:"), "The key does not begin with settings:v2:.", seen)
        signs = all("!" <= sign <= "~" for sign in key)
        expect(signs, "The key holds a sign that is not printable ASCII, or a space.", seen)
        other = f"cache_key({', '.join(map(ascii, keys.get(key, ())))})"
        expect(
            key not in keys, f"Two different things have the same key: {other} is it, too.", seen
        )
        keys[key] = parts
        again = answer.cache_key("settings", 2, *parts)
        expect(again == key, "The same parts give another key the second time.", seen)
    key = answer.cache_key("session", 10, "a")
    expect(key.startswith("session:v10:"), "Prefix and version are to come from outside.", key)


_KEYS = Problem(
    id="cache.1",
    title="Keys that cannot be confused",
    prompt="""\
Write `cache_key(prefix, version, *parts)`. It returns a `str` that begins with
`{prefix}:v{version}:`, such as `settings:v2:…`. There is at least one part, and a part may hold any
sign: colons, spaces, line breaks, `%`, an emoji, or none at all. Two different lists of parts never
give the same key, and a key holds printable ASCII without spaces only.""",
    answer="python",
    hidden=False,
    starter="""\
def cache_key(prefix: str, version: int, *parts: str) -> str:
    ...""",
    checks=(Behaves(scenario=_keys_differ),),
    solutions=(
        Solution(
            python="""\
from urllib.parse import quote


def cache_key(prefix: str, version: int, *parts: str) -> str:
    return ":".join([prefix, f"v{version}", *(quote(part, safe="") for part in parts)])""",
            why="`quote` writes each colon of a part as `%3A`, and each `%` as `%25`, so a colon "
            "in a key can only be a separator, and the parts could be read back out of it. What "
            "can be undone cannot be confused. The version is there for the day when the shape of "
            "a value changes: old entries are then not found, instead of misread.",
        ),
        Solution(
            python="""\
import base64


def cache_key(prefix: str, version: int, *parts: str) -> str:
    coded = [base64.urlsafe_b64encode(part.encode()).decode() for part in parts]
    return ":".join([prefix, f"v{version}", *coded])""",
            why="Base64 has no colon either. The price: nobody can read such a key any more.",
        ),
    ),
    wrong=(
        Wrong(
            python="""
def cache_key(prefix, version, *parts):
    return ":".join([prefix, f"v{version}", *parts])""",
            says="Two different things have the same key",
        ),
        Wrong(
            python="""
def cache_key(prefix, version, *parts):
    return ":".join([prefix, f"v{version}", *(part.replace(":", "_") for part in parts)])""",
            says="Two different things have the same key",
        ),
        Wrong(
            python="""
import json
def cache_key(prefix, version, *parts):
    return f"{prefix}:v{version}:" + json.dumps(parts)""",
            says="not printable ASCII, or a space",
        ),
        Wrong(
            python="""
def cache_key(prefix, version, *parts):
    return f"{prefix}:v{version}:{hash(parts)}" """,
            says="hash() of a str is another number in each process",
        ),
        Wrong(
            python="""
import uuid
def cache_key(prefix, version, *parts):
    return f"{prefix}:v{version}:{uuid.uuid4()}" """,
            says="another key the second time",
        ),
        Wrong(
            python="""
def cache_key(prefix, version, *parts):
    return ":".join([prefix, *(part.encode().hex() for part in parts)])""",
            says="does not begin with settings:v2:",
        ),
    ),
    hints=(
        "`a:b` and the two parts `a` and `b` must not look alike. What would tell them apart?",
        "Write the colons of a part as something else, and that something else differently, too.",
        'The standard library has it: `urllib.parse.quote(part, safe="")`.',
    ),
)

# 2


class _Load:
    """A loader that counts."""

    def __init__(self, value: object) -> None:
        self.value = value
        self.calls = 0

    def __call__(self) -> object:
        self.calls += 1
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


_SETTINGS: Final = {"name": "Ñandú", "limits": [1, 2.5], "notify": False, "footer": None}


def _reads_through(answer: Answer, world: World) -> None:
    sent: list[str] = []
    redis = world.redis(after=lambda words: sent.append(str(words[0]).upper()))
    load = _Load(_SETTINGS)
    for time_of_asking in ("first", "second"):
        got = answer.cached(redis, "settings:v1:lima", load, 60)
        expect(
            got == _SETTINGS and type(got) is dict,
            f"The {time_of_asking} call does not return what load() returned.",
            f"load() → {_SETTINGS!r}\ncached(…) → {got!r}",
        )
        expect(load.calls > 0, "The value came from somewhere else than load().")
        expect(load.calls == 1, "The second call loads again, although Redis could have answered.")
    text = redis.get("settings:v1:lima")
    expect(text is not None, "Redis holds nothing at the key.", "GET settings:v1:lima → nil")
    expect(
        error_of(lambda: json.loads(str(text))) is None and json.loads(str(text)) == _SETTINGS,
        "What Redis holds at the key is not the value as JSON.",
        f"GET settings:v1:lima → {text}",
    )
    left = redis.ttl("settings:v1:lima")
    seen = f"TTL settings:v1:lima → {left}"
    expect(left != -1, "The entry has no end: it would stay for ever.", seen)
    expect(30 < left <= 60, "The entry does not end after ttl_s seconds.", seen)
    expect(
        "MULTI" in sent or not {"EXPIRE", "PEXPIRE", "EXPIREAT"} & set(sent),
        "Two commands: if the program dies between them, the entry has no end. SET can do both.",
        "you sent: " + ", ".join(name for name in sent if name != "CLIENT"),
    )
    empty = _Load([])
    for _ in range(2):
        got = answer.cached(redis, "labels:v1:lima", empty, 60)
        expect(got == [], "For another key something else comes back.", f"cached(…) → {got!r}")
    expect(empty.calls == 1, "An empty list is a value, too: the second call loads it again.")
    redis.delete("settings:v1:lima")
    load.value = {"new": True}
    got = answer.cached(redis, "settings:v1:lima", load, 60)
    expect(got == load.value, "Once the entry is gone, the old value still comes.", f"→ {got!r}")


_READ_THROUGH = Problem(
    id="cache.2",
    title="Read through, with an end",
    prompt="""\
Write `cached(redis, key, load, ttl_s)`. If Redis has a value at `key`, return it; if not, call
`load()`, keep its value at `key` for `ttl_s` seconds, and return it. `load()` returns what JSON can
hold, and Redis is to hold it as JSON. The value and its end go to Redis in **one command**. The
client was made with `decode_responses=True`, so it returns `str`.""",
    answer="python",
    hidden=False,
    starter="""\
import json


def cached(redis, key: str, load, ttl_s: int):
    ...""",
    checks=(Behaves(scenario=_reads_through),),
    solutions=(
        Solution(
            python="""\
import json


def cached(redis, key: str, load, ttl_s: int):
    text = redis.get(key)
    if text is not None:
        return json.loads(text)
    value = load()
    redis.set(key, json.dumps(value), ex=ttl_s)
    return value""",
            why="The program asks the cache, then the database, and puts the answer aside: hence "
            "cache-aside. `is not None` asks whether there is an entry, not whether it is true. "
            "`SET … EX` is one command, so no entry can be without an end.",
        ),
        Solution(
            python="""\
import json


def cached(redis, key: str, load, ttl_s: int):
    if (text := redis.get(key)) is None:
        text = json.dumps(load())
        redis.setex(key, ttl_s, text)
    return json.loads(text)""",
            why="Here a miss returns what a hit will return (a tuple as a list, for instance), so "
            "a caller that would stumble over the difference stumbles the first time.",
        ),
    ),
    wrong=(
        Wrong(
            python="""
import json
def cached(redis, key, load, ttl_s):
    text = redis.get(key)
    if text is not None:
        return json.loads(text)
    value = load()
    redis.set(key, json.dumps(value))
    return value""",
            says="The entry has no end",
        ),
        Wrong(
            python="""
import json
def cached(redis, key, load, ttl_s):
    text = redis.get(key)
    if text is not None:
        return json.loads(text)
    value = load()
    redis.set(key, json.dumps(value))
    redis.expire(key, ttl_s)
    return value""",
            says="Two commands",
        ),
        Wrong(
            python="""
import json
def cached(redis, key, load, ttl_s):
    text = redis.get(key)
    if text and (value := json.loads(text)):
        return value
    value = load()
    redis.set(key, json.dumps(value), ex=ttl_s)
    return value""",
            says="An empty list is a value, too",
        ),
        Wrong(
            python="""
import json
def cached(redis, key, load, ttl_s):
    value = load()
    redis.set(key, json.dumps(value), ex=ttl_s)
    return value""",
            says="The second call loads again",
        ),
        Wrong(
            python="""
def cached(redis, key, load, ttl_s):
    if not redis.exists(key):
        redis.set(key, str(load()), ex=ttl_s)
    return redis.get(key)""",
            says="does not return what load() returned",
        ),
        Wrong(
            python="""
def cached(redis, key, load, ttl_s):
    text = redis.get(key)
    if text is None:
        redis.set(key, load(), ex=ttl_s)
    return redis.get(key)""",
            says="Your code raises an error",
        ),
    ),
    hints=(
        "`redis.get(key)` returns `None` where there is no entry: `is None`, not `not`.",
        "`redis.set(key, json.dumps(value), ex=…)` stores a value with its end.",
    ),
)

# 3


def _spreads(answer: Answer, world: World) -> None:
    redis = world.redis()
    values = {f"chat:v1:{number}": {"unread": number} for number in range(400)}
    answer.warm(redis, values, 1_000)
    names = list(values)
    texts = redis.mget(names)
    expect(None not in texts, "Some entries are missing in Redis.")
    expect(
        error_of(lambda: [json.loads(text) for text in texts]) is None
        and [json.loads(text) for text in texts] == list(values.values()),
        "Redis does not hold the values as JSON.",
        f"GET chat:v1:0 → {texts[0]}",
    )
    with redis.pipeline() as pipeline:
        for name in names:
            pipeline.pttl(name)
        left = [milliseconds / 1_000 for milliseconds in pipeline.execute()]
    seen = "\n".join(
        f"TTL {name} → {s:.0f} s" for name, s in list(zip(names, left, strict=True))[:6]
    )
    expect(min(left) >= 0, "An entry has no end.", seen)
    expect(
        max(left) <= 1_000, "An entry lives longer than ttl_s: that was promised to nobody.", seen
    )
    expect(min(left) >= 780, "An entry ends sooner than after 80 % of ttl_s.", seen)
    [(_, most)] = Counter(round(s) for s in left).most_common(1)
    expect(most <= 60, f"{most} of 400 entries end in the same second.", seen)
    expect(
        max(left) - min(left) > 100, "The ends are spread over less than half of the room.", seen
    )


_JITTER = Problem(
    id="cache.3",
    title="Not all at once",
    prompt="""\
Write `warm(redis, values, ttl_s)`. `values` maps keys to values; each value goes into Redis at its
key, as JSON. Entries that are written together must not end together: let each live for a time of
its own, chosen at random from 80 % of `ttl_s` to the whole, and never longer.""",
    answer="python",
    hidden=False,
    starter="""\
import json
import random


def warm(redis, values: dict, ttl_s: int) -> None:
    ...""",
    checks=(Behaves(scenario=_spreads),),
    solutions=(
        Solution(
            python="""\
import json
import random


def warm(redis, values: dict, ttl_s: int) -> None:
    with redis.pipeline(transaction=False) as pipeline:
        for key, value in values.items():
            lifetime_ms = int(1000 * ttl_s * random.uniform(0.8, 1.0))
            pipeline.set(key, json.dumps(value), px=lifetime_ms)
        pipeline.execute()""",
            why="Each entry draws its own time, so they end over a fifth of `ttl_s` instead of in "
            "one second. Downwards, because `ttl_s` is a promise: nobody reads anything older. "
            "The pipeline sends all of it at once; one round trip instead of 400.",
        ),
        Solution(
            python="""\
import json
import random


def warm(redis, values: dict, ttl_s: int) -> None:
    for key, value in values.items():
        redis.set(key, json.dumps(value), ex=random.randint(ttl_s * 8 // 10, ttl_s))""",
            why="Whole seconds are good enough where `ttl_s` is large.",
        ),
    ),
    wrong=(
        Wrong(
            python="""
import json
def warm(redis, values, ttl_s):
    for key, value in values.items():
        redis.set(key, json.dumps(value), ex=ttl_s)""",
            says="entries end in the same second",
        ),
        Wrong(
            python="""
import json, random
def warm(redis, values, ttl_s):
    lifetime = random.randint(int(ttl_s * 0.8), ttl_s)
    for key, value in values.items():
        redis.set(key, json.dumps(value), ex=lifetime)""",
            says="entries end in the same second",
        ),
        Wrong(
            python="""
import json, random
def warm(redis, values, ttl_s):
    for key, value in values.items():
        redis.set(key, json.dumps(value), ex=int(ttl_s * random.uniform(0.8, 1.2)))""",
            says="An entry lives longer than ttl_s",
        ),
        Wrong(
            python="""
import json
def warm(redis, values, ttl_s):
    redis.mset({key: json.dumps(value) for key, value in values.items()})""",
            says="An entry has no end",
        ),
        Wrong(
            python="""
import json, random
def warm(redis, values, ttl_s):
    for key, value in values.items():
        redis.set(key, json.dumps(value), ex=random.randint(1, ttl_s))""",
            says="An entry ends sooner",
        ),
    ),
    hints=(
        "Draw the time inside the loop: one for each entry.",
        "`random.uniform(0.8, 1.0) * ttl_s`; `px=` takes whole milliseconds.",
    ),
)

# 4


def _remembers_nothing(answer: Answer, world: World) -> None:
    redis = world.redis()
    load = _Load(None)
    for _ in range(2):
        got = answer.cached(redis, "settings:v1:nobody", load, 60, 5)
        expect(got is None, "What does not exist is to come back as None.", f"cached(…) → {got!r}")
    expect(load.calls > 0, "load() was never asked.")
    expect(
        load.calls == 1,
        "What does not exist is looked up again: every such question reaches the database.",
    )
    left = redis.ttl("settings:v1:nobody")
    seen = f"TTL settings:v1:nobody → {left}"
    expect(left != -1, "That something is missing is remembered for ever.", seen)
    expect(0 <= left <= 5, "That something is missing is remembered for too long.", seen)
    for number, value in enumerate((_SETTINGS, [], 0, False, "", "null", "None", "missing")):
        key, found = f"settings:v1:{number}", _Load(value)
        for _ in range(2):
            got = answer.cached(redis, key, found, 60, 5)
            expect(
                got == value and type(got) is type(value),
                f"{value!r} is a value like any other, and something else comes back.",
                f"cached(…) → {got!r}",
            )
        expect(found.calls == 1, f"{value!r} is loaded twice.")
        left = redis.ttl(key)
        expect(
            5 < left <= 60,
            f"{value!r} exists, so it is to be kept for ttl_s seconds.",
            f"TTL {key} → {left}",
        )
    redis.delete("settings:v1:nobody")
    load.value = {"new": True}
    got = answer.cached(redis, "settings:v1:nobody", load, 60, 5)
    expect(got == load.value, "Once it exists, it is still not found.", f"cached(…) → {got!r}")


_NEGATIVE = Problem(
    id="cache.4",
    title="Remember what is not there",
    prompt="""\
`load()` returns `None` if the database has no such row. Write
`cached(redis, key, load, ttl_s, missing_ttl_s)`, which remembers that, too: for `missing_ttl_s`
seconds, it returns `None` without asking `load()` again. Every other value (also `[]`, `0`, `False`
and `""`) is kept for `ttl_s` seconds. The client returns `str`.""",
    answer="python",
    hidden=False,
    starter="""\
import json


def cached(redis, key: str, load, ttl_s: int, missing_ttl_s: int):
    ...""",
    checks=(Behaves(scenario=_remembers_nothing),),
    solutions=(
        Solution(
            python="""\
import json


def cached(redis, key: str, load, ttl_s: int, missing_ttl_s: int):
    text = redis.get(key)
    if text is not None:
        return json.loads(text)
    value = load()
    redis.set(key, json.dumps(value), ex=missing_ttl_s if value is None else ttl_s)
    return value""",
            why='No entry is `None`; an entry that says "there is none" is the JSON text `null`. '
            "The two are different, and no special value had to be invented. It lives for a "
            "shorter time, because a row that was missing may be made at any moment, and a "
            "stranger who asks for millions of invented names fills Redis with such entries.",
        ),
        Solution(
            python="""\
import json


def cached(redis, key: str, load, ttl_s: int, missing_ttl_s: int):
    text = redis.get(key)
    if text is None:
        value = load()
        text = "" if value is None else json.dumps(value)
        redis.set(key, text, ex=ttl_s if text else missing_ttl_s)
    return json.loads(text) if text else None""",
            why="An empty text is no JSON, so it can stand for what is missing.",
        ),
    ),
    wrong=(
        Wrong(
            python="""
import json
def cached(redis, key, load, ttl_s, missing_ttl_s):
    text = redis.get(key)
    if text is not None:
        return json.loads(text)
    value = load()
    if value is not None:
        redis.set(key, json.dumps(value), ex=ttl_s)
    return value""",
            says="every such question reaches the database",
        ),
        Wrong(
            python="""
import json
def cached(redis, key, load, ttl_s, missing_ttl_s):
    text = redis.get(key)
    if text is not None:
        return json.loads(text)
    value = load()
    redis.set(key, json.dumps(value), ex=ttl_s)
    return value""",
            says="remembered for too long",
        ),
        Wrong(
            python="""
import json
def cached(redis, key, load, ttl_s, missing_ttl_s):
    text = redis.get(key)
    if text is not None:
        return json.loads(text)
    value = load()
    redis.set(key, json.dumps(value), ex=ttl_s if value else missing_ttl_s)
    return value""",
            says="[] exists, so it is to be kept for ttl_s seconds",
        ),
        Wrong(
            python="""
import json
def cached(redis, key, load, ttl_s, missing_ttl_s):
    text = redis.get(key)
    if text is not None:
        value = json.loads(text)
        return None if value == "missing" else value
    value = load()
    if value is None:
        redis.set(key, '"missing"', ex=missing_ttl_s)
    else:
        redis.set(key, json.dumps(value), ex=ttl_s)
    return value""",
            says="'missing' is a value like any other",
        ),
    ),
    hints=(
        "Two different things look alike: Redis has no entry, and the entry says: there is none.",
        "What does `json.dumps(None)` return?",
    ),
)

# 5

_NAME: Final = "sciencebot-production"
_KEY: Final = f"settings:v1:{_NAME}"


def _invalidates(answer: Answer, world: World) -> None:
    other, reader_redis = world.connect(autocommit=True), world.redis()

    def stored() -> Any:
        row = other.execute("SELECT settings FROM instances WHERE name = %s", [_NAME]).fetchone()
        return row[0] if row else None

    def read() -> None:
        """Read as any program does: from Redis, else from the database, to Redis."""
        if reader_redis.get(_KEY) is None:
            reader_redis.set(_KEY, json.dumps(stored()), ex=300)

    steps: list[str] = []

    def somebody_reads(words: tuple[Any, ...]) -> None:
        if _KEY in map(str, words):
            steps.append(f"you: {words[0]} {_KEY}")
            if str(words[0]).upper() in {"SET", "SETEX", "PSETEX", "MSET"}:
                raise NotYet(
                    "Remove the entry instead of writing it: two writers may commit in one order, "
                    "and write to Redis in the other.",
                    "\n".join(steps),
                )
            read()
            steps.append(f"somebody else reads, and Redis holds: {reader_redis.get(_KEY)}")

    read()
    before = stored()
    new = {"reject_call": True, "footer": "now"}
    writer = world.connect()
    answer.save_settings(writer, world.redis(after=somebody_reads), _NAME, new)
    expect(
        stored() == new,
        "Another connection does not see the new settings: is there a commit?",
        f"it sees {json.dumps(stored())[:300]}",
    )
    others = other.execute(
        "SELECT count(*) FROM instances WHERE settings = %s", [Jsonb(new)]
    ).fetchone()
    expect(others == (1,), "Other instances got these settings, too.")
    expect(steps, "Nothing was removed from Redis: every reader sees the old settings.")
    kept = reader_redis.get(_KEY)
    expect(
        kept is None or json.loads(str(kept)) == new,
        "Redis holds the old settings, for up to five minutes: somebody read between your removal "
        "and your commit, and put them back.",
        "\n".join([*steps, f"you: COMMIT\nthe old settings: {json.dumps(before)[:200]}"]),
    )


_AFTER_COMMIT = Problem(
    id="cache.5",
    title="First the commit, then the cache",
    prompt=f"""\
Write `save_settings(connection, redis, name, settings)`. It stores `settings` (a dict) in the
column `settings` of the instance of that name, commits, and removes the entry
`settings:v1:{{name}}` from Redis, so that nobody reads the old settings from there afterwards.
Readers do what the lesson's readers do: they ask Redis, and on a miss they load from PostgreSQL and
store for five minutes. One of them reads at the worst moment. The check uses the instance
`{_NAME}`; the connection is psycopg's, and not in autocommit mode.""",
    answer="python",
    hidden=False,
    starter="""\
from psycopg.types.json import Jsonb


def save_settings(connection, redis, name: str, settings: dict) -> None:
    ...""",
    checks=(Behaves(scenario=_invalidates, database=True),),
    solutions=(
        Solution(
            python="""\
from psycopg.types.json import Jsonb


def save_settings(connection, redis, name: str, settings: dict) -> None:
    with connection.transaction():
        connection.execute(
            "UPDATE instances SET settings = %s WHERE name = %s", (Jsonb(settings), name)
        )
    redis.delete(f"settings:v1:{name}")""",
            why="Until the commit, every other connection reads the old row. An entry that is "
            "removed before it can therefore come back with the old value, and stay. After the "
            "commit, whoever misses loads the new one. A moment remains in which Redis is still "
            "old, and a reader who loaded before the commit may store after the removal: the "
            "lesson's leases close that gap.",
        ),
        Solution(
            python="""\
from psycopg.types.json import Jsonb


def save_settings(connection, redis, name: str, settings: dict) -> None:
    redis.delete(f"settings:v1:{name}")
    connection.execute(
        "UPDATE instances SET settings = %s WHERE name = %s", (Jsonb(settings), name)
    )
    connection.commit()
    redis.unlink(f"settings:v1:{name}")""",
            why="A removal before the commit as well does no harm. It is the one after it that "
            "counts.",
        ),
    ),
    wrong=(
        Wrong(
            python="""
from psycopg.types.json import Jsonb
def save_settings(connection, redis, name, settings):
    with connection.transaction():
        connection.execute(
            "UPDATE instances SET settings = %s WHERE name = %s", (Jsonb(settings), name))
        redis.delete(f"settings:v1:{name}")""",
            says="somebody read between your removal and your commit",
        ),
        Wrong(
            python="""
from psycopg.types.json import Jsonb
def save_settings(connection, redis, name, settings):
    redis.delete(f"settings:v1:{name}")
    connection.execute(
        "UPDATE instances SET settings = %s WHERE name = %s", (Jsonb(settings), name))
    connection.commit()""",
            says="somebody read between your removal and your commit",
        ),
        Wrong(
            python="""
from psycopg.types.json import Jsonb
def save_settings(connection, redis, name, settings):
    connection.execute(
        "UPDATE instances SET settings = %s WHERE name = %s", (Jsonb(settings), name))
    redis.delete(f"settings:v1:{name}")""",
            says="is there a commit?",
        ),
        Wrong(
            python="""
from psycopg.types.json import Jsonb
def save_settings(connection, redis, name, settings):
    connection.execute(
        "UPDATE instances SET settings = %s WHERE name = %s", (Jsonb(settings), name))
    connection.commit()""",
            says="Nothing was removed from Redis",
        ),
        Wrong(
            python="""
import json
from psycopg.types.json import Jsonb
def save_settings(connection, redis, name, settings):
    connection.execute(
        "UPDATE instances SET settings = %s WHERE name = %s", (Jsonb(settings), name))
    connection.commit()
    redis.set(f"settings:v1:{name}", json.dumps(settings), ex=300)""",
            says="Remove the entry instead of writing it",
        ),
        Wrong(
            python="""
from psycopg.types.json import Jsonb
def save_settings(connection, redis, name, settings):
    connection.execute("UPDATE instances SET settings = %s", (Jsonb(settings),))
    connection.commit()
    redis.delete(f"settings:v1:{name}")""",
            says="Other instances got these settings, too.",
        ),
    ),
    hints=(
        "What does somebody load who misses in Redis before your transaction has ended?",
        "`with connection.transaction():` commits at its end. Leave the block first.",
    ),
)

# 6


def _releases(answer: Answer, world: World) -> None:
    other = world.redis()
    other.set("lock:import", "mine", px=60_000)
    got = answer.release(world.redis(), "lock:import", "mine")
    expect(not other.exists("lock:import"), "Your own lock is still there.")
    expect(got, "Your own lock was given back, and that is to be True.", f"release(…) → {got!r}")
    got = answer.release(world.redis(), "lock:import", "mine")
    expect(not got, "There was no lock any more, and that is to be False.", f"release(…) → {got!r}")
    other.set("lock:import", "theirs", px=60_000)
    got = answer.release(world.redis(), "lock:import", "mine")
    expect(other.get("lock:import") == "theirs", "A lock with somebody else's token was removed.")
    expect(
        not got, "The lock was somebody else's, and that is to be False.", f"release(…) → {got!r}"
    )
    other.set("lock:import", "mine", px=60_000)
    steps: list[str] = []

    def expires_at_the_worst_moment(words: tuple[Any, ...]) -> None:
        if str(words[0]).upper() == "GET" and not steps:
            steps.append("you: GET lock:import → mine")
            other.delete("lock:import")
            steps.append("your lock's time is over, and it goes")
            other.set("lock:import", "theirs", nx=True, px=60_000)
            steps.append("somebody else: SET lock:import theirs NX PX 60000 → OK")

    answer.release(world.redis(after=expires_at_the_worst_moment), "lock:import", "mine")
    expect(
        not steps or other.get("lock:import") == "theirs",
        "Between your look and your removal the lock became somebody else's, and you removed it.",
        "\n".join([*steps, "you: remove lock:import"]),
    )


_RELEASE = Problem(
    id="cache.6",
    title="Give back your own lock only",
    prompt="""\
Somebody took a lock with `SET lock token NX PX …`. Write `release(redis, lock, token)`, which
removes the lock if it still holds this token, and returns `True`; otherwise it leaves everything
as it is, and returns `False`. A lock may end by itself and be taken by somebody else at any moment,
also between two of your commands. The client returns `str`.""",
    answer="python",
    hidden=False,
    starter="""\
def release(redis, lock: str, token: str) -> bool:
    ...""",
    checks=(Behaves(scenario=_releases),),
    solutions=(
        Solution(
            python='''\
SCRIPT = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
    return redis.call('DEL', KEYS[1])
end
return 0
"""


def release(redis, lock: str, token: str) -> bool:
    return redis.eval(SCRIPT, 1, lock, token) == 1''',
            why="A script runs as a whole: no other client's command comes between its `GET` and "
            "its `DEL`. The token is what tells your lock from the next one's.",
        ),
        Solution(
            python="""\
from redis.exceptions import WatchError


def release(redis, lock: str, token: str) -> bool:
    with redis.pipeline() as pipeline:
        try:
            pipeline.watch(lock)
            if pipeline.get(lock) != token:
                return False
            pipeline.multi()
            pipeline.delete(lock)
            pipeline.execute()
            return True
        except WatchError:
            return False""",
            why="`WATCH` makes the transaction fail if anybody changed the key since. It is right "
            "as well, with three round trips more.",
        ),
    ),
    wrong=(
        Wrong(
            python="""
def release(redis, lock, token):
    return bool(redis.delete(lock))""",
            says="A lock with somebody else's token was removed.",
        ),
        Wrong(
            python="""
def release(redis, lock, token):
    if redis.get(lock) == token:
        redis.delete(lock)
        return True
    return False""",
            says="Between your look and your removal",
        ),
        Wrong(
            python="""
def release(redis, lock, token):
    return redis.eval("return redis.call('GET', KEYS[1]) == ARGV[1]", 1, lock, token) == 1""",
            says="Your own lock is still there.",
        ),
        Wrong(
            python="""
def release(redis, lock, token):
    if redis.get(lock) == token:
        with redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(lock)
            pipeline.execute()
        return True
    return False""",
            says="Between your look and your removal",
        ),
        Wrong(
            python="""
def release(redis, lock, token):
    redis.eval(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end",
        1, lock, token)""",
            says="that is to be True",
        ),
    ),
    hints=(
        "To look and to remove must be one step for Redis.",
        "`redis.eval(script, 1, lock, token)` runs a Lua script; it has `KEYS[1]` and `ARGV[1]`.",
        "`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end`",
    ),
)

# 7

_THREADS: Final = 24


def _wait_until_inside(threads: int) -> None:
    """Wait until so many threads are in the learner's code, and a little for them to come to rest.

    Somebody who has not arrived when the load ends may rightly load again.
    """
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        inside = 0
        for frame in sys._current_frames().values():  # noqa: SLF001 - documented
            step = frame
            while step.f_back is not None and step.f_code.co_filename != CELL:
                step = step.f_back
            inside += step.f_code.co_filename == CELL
        if inside >= threads:
            break
        time.sleep(0.005)
    time.sleep(0.2)


def _flies_once(answer: Answer, world: World) -> None:
    flights = answer.Flights()
    loads: list[int] = []

    def load() -> str:
        loads.append(1)
        if len(loads) == 1:
            _wait_until_inside(_THREADS)
        return "value"

    got = world.together(*[lambda: flights.get("a", load)] * _THREADS)
    expect(
        len(loads) == 1,
        f"{_THREADS} threads asked for one key at once, and load was called {len(loads)} times.",
    )
    expect(
        got == ["value"] * _THREADS,
        "Not everybody who asked got the value.",
        f"they got {Counter(map(repr, got)).most_common()}",
    )
    flights.get("a", load)
    expect(
        len(loads) == 2,
        "Whoever asks later, when nothing is being loaded, is to cause a new load: this is no "
        "cache, and would never end an entry.",
    )


def _keys_fly_apart(answer: Answer, world: World) -> None:
    flights = answer.Flights()
    a_is_being_loaded, b_was_loaded = threading.Event(), threading.Event()

    def load_a() -> bool:
        a_is_being_loaded.set()
        return b_was_loaded.wait(1)

    def ask_for_b() -> object:
        a_is_being_loaded.wait(1)
        return flights.get("b", load_b)

    def load_b() -> str:
        b_was_loaded.set()
        return "b"

    a, b = world.together(lambda: flights.get("a", load_a), ask_for_b)
    expect(a is True, "While one key is being loaded, every other key waits for it.")
    expect(b == "b", "Two keys at once, and one got something else.", f"b → {b!r}")


def _errors_reach_all(answer: Answer, world: World) -> None:
    flights, loads = answer.Flights(), []

    def fail() -> None:
        loads.append(1)
        _wait_until_inside(4)
        raise LookupError("the database is away")

    errors = world.together(*[lambda: error_of(lambda: flights.get("a", fail))] * 4)
    expect(
        all(type(error) is LookupError for error in errors),
        "load failed, and not everybody who waited for it was told so by its error.",
        f"they got {Counter(map(repr, errors)).most_common()}",
    )
    expect(
        len(loads) == 1, f"load fails, and is called {len(loads)} times for 4 who asked at once."
    )
    got = error_of(
        lambda: expect(
            flights.get("a", lambda: "well") == "well",
            "After a load that failed, the next one does not get its value.",
        )
    )
    expect(got is None, "After a load that failed, the next one fails as well.", repr(got))


_FLIGHT = Problem(
    id="cache.7",
    title="One load for all who ask",
    prompt="""\
Write a class `Flights` with a method `get(key, load)`, which many threads call. Whoever asks for a
key that nobody is loading calls `load()` and returns its value. Whoever asks while it is being
loaded waits, and returns the same value. Different keys do not wait for each other. If `load()`
raises an error, everybody who waits for it gets that error, too. When a load has ended, nothing of
it stays: the next one who asks loads anew.""",
    answer="python",
    hidden=False,
    limit_s=4,
    starter="""\
import threading


class Flights:
    def get(self, key, load):
        ...""",
    checks=(
        Behaves(scenario=_flies_once),
        Behaves(scenario=_keys_fly_apart),
        Behaves(scenario=_errors_reach_all),
    ),
    solutions=(
        Solution(
            python="""\
import threading
from concurrent.futures import Future


class Flights:
    def __init__(self):
        self.lock = threading.Lock()
        self.under_way = {}

    def get(self, key, load):
        with self.lock:
            flight = self.under_way.get(key)
            mine = flight is None
            if mine:
                flight = self.under_way[key] = Future()
        if mine:
            try:
                flight.set_result(load())
            except BaseException as error:
                flight.set_exception(error)
            finally:
                with self.lock:
                    del self.under_way[key]
        return flight.result()""",
            why="The lock is held only to look into the dictionary, never while something is being "
            "loaded. A `Future` holds a value or an error, and wakes all who wait for it. And the "
            "`finally` is what lets the next one try again.",
        ),
    ),
    wrong=(
        Wrong(
            python="""
class Flights:
    def get(self, key, load):
        return load()""",
            says="load was called 24 times",
        ),
        Wrong(
            python="""
import threading
class Flights:
    def __init__(self):
        self.lock = threading.Lock()
        self.values = {}
    def get(self, key, load):
        with self.lock:
            if key not in self.values:
                self.values[key] = load()
            return self.values[key]""",
            says="this is no cache",
        ),
        Wrong(
            python="""
import threading
class Flights:
    def __init__(self):
        self.lock = threading.Lock()
        self.flights = {}
    def get(self, key, load):
        with self.lock:
            flight = self.flights.get(key)
            mine = flight is None
            if mine:
                flight = self.flights[key] = {"done": threading.Event()}
        if mine:
            flight["value"] = load()
            flight["done"].set()
            del self.flights[key]
        flight["done"].wait()
        return flight["value"]""",
            says="Your code was stopped after 4 s",
        ),
        Wrong(
            python="""
import threading
class Flights:
    def __init__(self):
        self.lock = threading.Lock()
        self.asked = 0
        self.value = None
    def get(self, key, load):
        before = self.asked
        self.asked += 1
        with self.lock:
            if before == 0:
                self.value = load()
            self.asked -= 1
            return self.value""",
            says="While one key is being loaded, every other key waits for it.",
        ),
    ),
    hints=(
        "Keep a dictionary of what is being loaded: from the key to something one can wait for.",
        "A lock protects the dictionary; do not hold it while you load.",
        (
            "`concurrent.futures.Future` has `set_result`, `set_exception` and `result()`. Remove "
            "it from the dictionary in a `finally`."
        ),
    ),
)

# 8


def _survives(answer: Answer, world: World) -> None:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    server = world.redis_server
    patience: dict[str, Any] = {"socket_timeout": 0.5, "retry": Retry(NoBackoff(), 0)}
    redis = world.redis(**patience)

    def ask(client: Any, load: _Load, when: str, loads: int) -> None:
        got = answer.cached(client, "settings:v1:lima", load, 60)
        expect(got == load.value, f"{when}, the value does not come.", f"cached(…) → {got!r}")
        expect(load.calls == loads, f"{when}, load was called {load.calls} times, not {loads}.")

    load = _Load(_SETTINGS)
    ask(redis, load, "With Redis alive", 1)
    ask(redis, load, "The second time, with Redis alive", 1)
    redis.set("settings:v1:lima", '{"name": "Ña')
    ask(redis, _Load(_SETTINGS), "With half an entry in Redis", 1)
    server.kill()
    ask(redis, _Load(_SETTINGS), "With Redis dead", 1)
    server.start()
    load = _Load(_SETTINGS)
    ask(redis, load, "With Redis back, and empty", 1)
    ask(redis, load, "The second time, with Redis back", 1)
    server.pause()
    ask(redis, _Load(_SETTINGS), "With a Redis that answers nothing", 1)
    server.resume()
    down = _Load(psycopg.OperationalError("the database is away"))
    world.redis().delete("settings:v1:lima")
    error = error_of(lambda: answer.cached(redis, "settings:v1:lima", down, 60))
    expect(
        isinstance(error, psycopg.OperationalError),
        "An error of load() is the caller's business, and it does not come out.",
        f"got {error!r}",
    )
    expect(down.calls == 1, f"load fails, and was called {down.calls} times.")
    dying = world.redis(
        after=lambda words: server.kill() if str(words[0]).upper() == "GET" else None, **patience
    )
    ask(dying, _Load(_SETTINGS), "With Redis dying between your GET and your SET", 1)


_SURVIVES = Problem(
    id="cache.8",
    title="Redis is dead, and nobody notices",
    prompt="""\
Write `cached(redis, key, load, ttl_s)` as in *Read through, with an end*, and so that a reader
never suffers from Redis: if Redis is dead, does not answer in time (the client has a time-out, and
raises `redis.exceptions.TimeoutError`), or holds something that is no JSON, the value comes from
`load()`, which is called **once**. An error of `load()` itself is the caller's business, and comes
out as it is.""",
    answer="python",
    hidden=False,
    limit_s=10,
    starter="""\
import json

from redis.exceptions import RedisError


def cached(redis, key: str, load, ttl_s: int):
    ...""",
    checks=(Behaves(scenario=_survives),),
    solutions=(
        Solution(
            python="""\
import json

from redis.exceptions import RedisError


def cached(redis, key: str, load, ttl_s: int):
    try:
        text = redis.get(key)
        if text is not None:
            return json.loads(text)
    except (RedisError, ValueError):
        pass
    value = load()
    try:
        redis.set(key, json.dumps(value), ex=ttl_s)
    except RedisError:
        pass
    return value""",
            why="Two small `try` blocks, and `load()` in neither: its errors must not be taken for "
            "Redis's, and it must not be called again because storing failed. `json.loads` raises "
            "a `ValueError`. What remains to be done: a Redis that is slow costs every reader the "
            "time-out, twice. A circuit breaker stops asking for a while.",
        ),
    ),
    wrong=(
        Wrong(
            python="""
import json
def cached(redis, key, load, ttl_s):
    text = redis.get(key)
    if text is not None:
        try:
            return json.loads(text)
        except ValueError:
            pass
    value = load()
    redis.set(key, json.dumps(value), ex=ttl_s)
    return value""",
            says="Your code raises an error.",
        ),
        Wrong(
            python="""
import json
from redis.exceptions import RedisError
def cached(redis, key, load, ttl_s):
    try:
        text = redis.get(key)
        if text is not None:
            return json.loads(text)
        value = load()
        redis.set(key, json.dumps(value), ex=ttl_s)
        return value
    except (RedisError, ValueError):
        return load()""",
            says="With Redis dying between your GET and your SET, load was called 2 times, not 1.",
        ),
        Wrong(
            python="""
import json
def cached(redis, key, load, ttl_s):
    try:
        text = redis.get(key)
        if text is not None:
            return json.loads(text)
    except Exception:
        pass
    try:
        value = load()
        redis.set(key, json.dumps(value), ex=ttl_s)
    except Exception:
        return None
    return value""",
            says="With Redis dead, the value does not come.",
        ),
        Wrong(
            python="""
import json
from redis.exceptions import RedisError
def cached(redis, key, load, ttl_s):
    try:
        text = redis.get(key)
        if text is not None:
            return json.loads(text)
    except (RedisError, ValueError):
        pass
    return load()""",
            says="The second time, with Redis alive, load was called 2 times, not 1.",
        ),
        Wrong(
            python="""
import json
from redis.exceptions import RedisError
def cached(redis, key, load, ttl_s):
    try:
        text = redis.get(key)
    except RedisError:
        text = None
    if text is not None:
        return json.loads(text)
    value = load()
    try:
        redis.set(key, json.dumps(value), ex=ttl_s)
    except RedisError:
        pass
    return value""",
            says="JSONDecodeError",
        ),
    ),
    hints=(
        "Which lines can fail because of Redis? `load()` is not one of them.",
        "One `try` around reading, another around storing, and `load()` between them.",
    ),
)

# 9

_OUTBOX = Problem(
    id="cache.9",
    title="Tell it in the same transaction",
    hidden=False,  # the answer looks nothing up: it would be the same
    prompt="""\
There is a table `outbox (id, topic text, payload jsonb, created_at)`; `id` and `created_at` fill
themselves. In the `settings` of the instance `sciencebot-becas`, set the key `reject_call` to
`true` (the other keys stay), and put one row into `outbox`, with the topic `settings.changed` and
the payload `{"instance": "sciencebot-becas"}`. Both happen, or neither: also if the connection
breaks between your statements.""",
    answer="statements",
    starter="-- your statements here",
    setup="""
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
UPDATE instances SET settings = settings - 'reject_call' || '{"footer": "hola"}';
""",
    checks=(
        State(probe="SELECT name, settings FROM instances", about="the instances' settings"),
        State(probe="SELECT topic, payload FROM outbox", about="the table outbox"),
        Accepts(
            sql="""
DO $$ BEGIN
    ASSERT (SELECT xmin FROM instances WHERE name = 'sciencebot-becas') = (SELECT xmin FROM outbox),
           'two transactions wrote these rows (xmin)';
END $$""",
            says="These were two transactions: after a crash between them, the settings are new "
            "and nobody is told.",
        ),
    ),
    solutions=(
        Solution(
            sql="""\
BEGIN;
UPDATE instances SET settings = settings || '{"reject_call": true}'
WHERE name = 'sciencebot-becas';
INSERT INTO outbox (topic, payload)
VALUES ('settings.changed', '{"instance": "sciencebot-becas"}');
COMMIT""",
            why="The message is a row, so it is part of the transaction. A relay reads the table "
            "afterwards, publishes or invalidates, and deletes the row. If it dies in between it "
            "does so again: at least once, never nothing.",
        ),
        Solution(
            sql="""\
WITH changed AS (
    UPDATE instances SET settings = jsonb_set(settings, '{reject_call}', 'true')
    WHERE name = 'sciencebot-becas'
    RETURNING name
)
INSERT INTO outbox (topic, payload)
SELECT 'settings.changed', jsonb_build_object('instance', name) FROM changed""",
            why="One statement is one transaction. And where nothing was changed, nothing is told.",
        ),
    ),
    wrong=(
        Wrong(
            sql="""
UPDATE instances SET settings = settings || '{"reject_call": true}' WHERE name = 'sciencebot-becas';
INSERT INTO outbox (topic, payload)
VALUES ('settings.changed', '{"instance": "sciencebot-becas"}')""",
            says="These were two transactions",
        ),
        Wrong(
            sql="""
BEGIN;
UPDATE instances SET settings = settings || '{"reject_call": true}' WHERE name = 'sciencebot-becas';
INSERT INTO outbox (topic, payload)
VALUES ('settings.changed', '{"instance": "sciencebot-becas"}')""",
            says="Your transaction is still open",
        ),
        Wrong(
            sql="""
BEGIN;
UPDATE instances SET settings = '{"reject_call": true}' WHERE name = 'sciencebot-becas';
INSERT INTO outbox (topic, payload)
VALUES ('settings.changed', '{"instance": "sciencebot-becas"}');
COMMIT""",
            says="the instances' settings",
        ),
        Wrong(
            sql="""
BEGIN;
UPDATE instances SET settings = settings || '{"reject_call": true}' WHERE name = 'sciencebot-becas';
INSERT INTO outbox (topic, payload) VALUES ('settings.changed', '"sciencebot-becas"');
COMMIT""",
            says="the table outbox",
        ),
    ),
    hints=(
        "Two rows that belong together: `BEGIN`, both statements, `COMMIT`.",
        """`settings || '{"reject_call": true}'` adds a key, and leaves the others.""",
    ),
)

# 10


def _takes(answer: Answer, world: World) -> None:
    first, second = world.connect(), world.connect()
    one = answer.take(first)
    expect(
        one == (1, "job 1"),
        "The first worker is to get the oldest job, as (id, body).",
        f"take(first) → {one!r}",
    )
    expect(
        first.info.transaction_status == pq.TransactionStatus.INTRANS,
        "Your take ends the transaction, and with it the lock: nobody holds the job any more.",
    )
    two = None

    def ask() -> None:
        nonlocal two
        two = answer.take(second)

    error = error_of(ask)
    if isinstance(error, psycopg.errors.LockNotAvailable):
        raise NotYet(
            "The second worker does not get on: the first one's job is in its way.",
            f"LockNotAvailable: {str(error).strip()}",
        )
    if error is not None:
        raise error
    expect(two != one, "Both workers got the same job.", f"take(second) → {two!r}")
    expect(two == (2, "job 2"), "The second worker is to get job 2.", f"take(second) → {two!r}")
    first.rollback()
    back = answer.take(world.connect())
    expect(
        back == (1, "job 1"),
        "The first worker failed and rolled back; its job is to be there again.",
        f"take(third) → {back!r}",
    )
    second.execute("UPDATE jobs SET done_at = now() WHERE id = 2")
    second.commit()
    rest = [answer.take(world.connect()) for _ in range(2)]
    expect(
        rest == [(4, "job 4"), None],
        "Job 1 is held, 2 and 3 are done: job 4 is left, and then None.",
        f"take → {rest[0]!r}, take → {rest[1]!r}",
    )


_QUEUE = Problem(
    id="cache.10",
    title="Two workers, one queue",
    prompt="""\
A table `jobs (id bigint, body text, done_at timestamptz)` is a queue. Write `take(connection)`,
which returns the oldest job (lowest `id`) that is not done and that no other worker holds, as a
tuple `(id, body)`, or `None` if there is none. The worker holds it until its transaction ends:
the caller works, sets `done_at` and commits, or rolls back. So `take` does not commit, and it never
waits for another worker.""",
    answer="python",
    hidden=False,
    starter="""\
def take(connection):
    ...""",
    # Job 1 lies behind the others in the table, so that ORDER BY matters.
    setup="""
CREATE TABLE jobs (
    id bigint PRIMARY KEY, body text NOT NULL, done_at timestamptz
);
INSERT INTO jobs SELECT n, 'job ' || n, CASE n WHEN 3 THEN now() END
FROM unnest(ARRAY[4, 3, 2, 1]) AS n;
""",
    checks=(Behaves(scenario=_takes, database=True),),
    solutions=(
        Solution(
            python='''\
def take(connection):
    return connection.execute("""
        SELECT id, body FROM jobs
        WHERE done_at IS NULL
        ORDER BY id
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    """).fetchone()''',
            why="`FOR UPDATE` locks the row until the transaction ends; `SKIP LOCKED` passes over "
            "rows that others hold instead of waiting. A worker that dies loses its connection, "
            "the server rolls back, and the job is free again: no time-out, no dead letter of a "
            "crash. The price is a transaction that stays open for as long as the work takes.",
        ),
    ),
    wrong=(
        Wrong(
            python="""
def take(connection):
    return connection.execute(
        "SELECT id, body FROM jobs WHERE done_at IS NULL ORDER BY id LIMIT 1").fetchone()""",
            says="Both workers got the same job.",
        ),
        Wrong(
            python="""
def take(connection):
    return connection.execute(
        "SELECT id, body FROM jobs WHERE done_at IS NULL ORDER BY id LIMIT 1 FOR UPDATE"
    ).fetchone()""",
            says="The second worker does not get on",
        ),
        Wrong(
            python="""
def take(connection):
    return connection.execute(
        "SELECT id, body FROM jobs WHERE done_at IS NULL ORDER BY id LIMIT 1 FOR UPDATE NOWAIT"
    ).fetchone()""",
            says="The second worker does not get on",
        ),
        Wrong(
            python="""
def take(connection):
    return connection.execute(
        "SELECT id, body FROM jobs WHERE done_at IS NULL LIMIT 1 FOR UPDATE SKIP LOCKED"
    ).fetchone()""",
            says="The first worker is to get the oldest job",
        ),
        Wrong(
            python="""
def take(connection):
    with connection.transaction():
        return connection.execute(
            "SELECT id, body FROM jobs WHERE done_at IS NULL ORDER BY id LIMIT 1 "
            "FOR UPDATE SKIP LOCKED").fetchone()""",
            says="Your take ends the transaction",
        ),
    ),
    hints=(
        "`FOR UPDATE` holds a row. What should somebody do who meets a row that is held?",
        "`… ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED`",
    ),
)

# 11


def _takes_over(answer: Answer, world: World) -> None:
    redis = world.redis()
    stream, group = "events:v1", "senders"
    redis.xgroup_create(stream, group, id="0", mkstream=True)
    one, two, three = (str(redis.xadd(stream, {"n": n})) for n in "123")

    def ask(consumer: str) -> Any:
        got = answer.next_message(redis, stream, group, consumer, 60_000)
        well = got is None or (isinstance(got, (tuple, list)) and len(got) == 2)
        expect(well, "Return (id, fields), or None.", f"next_message(…) → {got!r}")
        return got and tuple(got)

    first = ask("anna")
    expect(first == (one, {"n": "1"}), "anna is to get the first message.", f"she got {first!r}")
    second = ask("ben")
    expect(
        second != first,
        "anna has had her message for a moment only, and ben takes it away from her.",
        f"both got {second!r}",
    )
    expect(second == (two, {"n": "2"}), "ben is to get the second message.", f"he got {second!r}")
    redis.xack(stream, group, two)
    # anna died a hundred seconds ago, as far as the stream knows.
    redis.execute_command("XCLAIM", stream, group, "anna", 0, one, "IDLE", 100_000, "JUSTID")
    taken = ask("ben")
    expect(
        taken == (one, {"n": "1"}),
        "anna has been silent for 100 s with her message, and ben, who asks now, is to take it "
        "over before he reads what is new.",
        f"he got {taken!r}",
    )
    [owner] = [entry["consumer"] for entry in redis.xpending_range(stream, group, "-", "+", 10)]
    expect(owner == "ben", "ben has the message, and the group does not know it.", owner)
    third = ask("ben")
    expect(third == (three, {"n": "3"}), "Then comes the third message.", f"he got {third!r}")
    last = ask("ben")
    expect(last is None, "There is nothing left: None, at once.", f"he got {last!r}")


_STREAM = Problem(
    id="cache.11",
    title="The dead consumer's message",
    prompt="""\
A stream is read by a group of consumers; who has done a message acknowledges it. Write
`next_message(redis, stream, group, consumer, idle_ms)`. If some consumer of the group was given a
message at least `idle_ms` milliseconds ago and has not acknowledged it, take over that message; if
there is none, read the next new one. Return `(id, fields)`, or `None` if there is neither; do not
wait. The group exists. The client returns `str`.""",
    answer="python",
    hidden=False,
    starter="""\
def next_message(redis, stream: str, group: str, consumer: str, idle_ms: int):
    ...""",
    checks=(Behaves(scenario=_takes_over),),
    solutions=(
        Solution(
            python="""\
def next_message(redis, stream: str, group: str, consumer: str, idle_ms: int):
    _, claimed, _ = redis.xautoclaim(stream, group, consumer, idle_ms, count=1)
    if claimed:
        return claimed[0]
    for _, messages in redis.xreadgroup(group, consumer, {stream: ">"}, count=1):
        return messages[0]
    return None""",
            why="`XREADGROUP … >` gives a message to one consumer and notes it as pending; only "
            "`XACK` ends that. `XAUTOCLAIM` hands over what has been pending for too long. So a "
            "message is done at least once, and may be done twice: a consumer that was only slow "
            "is still at it. Its work must be idempotent, and `idle_ms` longer than it takes. "
            "(With many pending messages, `XAUTOCLAIM` looks at some at a time and returns where "
            "to go on; a real consumer remembers that.)",
        ),
        Solution(
            python="""\
def next_message(redis, stream: str, group: str, consumer: str, idle_ms: int):
    for entry in redis.xpending_range(stream, group, "-", "+", 100, idle=idle_ms):
        claimed = redis.xclaim(stream, group, consumer, idle_ms, [entry["message_id"]])
        if claimed:
            return claimed[0]
    fresh = redis.xreadgroup(group, consumer, {stream: ">"}, count=1)
    return fresh[0][1][0] if fresh else None""",
            why="By hand: look at what is pending, and claim it. `XCLAIM` names the idle time "
            "again, so that of two who try, one gets nothing. `XPENDING` also tells how often a "
            "message was delivered: after the fifth time it belongs among the dead letters.",
        ),
    ),
    wrong=(
        Wrong(
            python="""
def next_message(redis, stream, group, consumer, idle_ms):
    fresh = redis.xreadgroup(group, consumer, {stream: ">"}, count=1)
    return fresh[0][1][0] if fresh else None""",
            says="anna has been silent for 100 s",
        ),
        Wrong(
            python="""
def next_message(redis, stream, group, consumer, idle_ms):
    claimed = redis.xautoclaim(stream, group, consumer, 0, count=1)[1]
    if claimed:
        return claimed[0]
    fresh = redis.xreadgroup(group, consumer, {stream: ">"}, count=1)
    return fresh[0][1][0] if fresh else None""",
            says="ben takes it away from her",
        ),
        Wrong(
            python="""
def next_message(redis, stream, group, consumer, idle_ms):
    fresh = redis.xreadgroup(group, consumer, {stream: ">"}, count=1)
    if fresh:
        return fresh[0][1][0]
    claimed = redis.xautoclaim(stream, group, consumer, idle_ms, count=1)[1]
    return claimed[0] if claimed else None""",
            says="before he reads what is new",
        ),
        Wrong(
            python="""
def next_message(redis, stream, group, consumer, idle_ms):
    fresh = redis.xread({stream: "0"}, count=1)
    return fresh[0][1][0] if fresh else None""",
            says="ben takes it away from her",
        ),
    ),
    hints=(
        "Two commands: one takes over what is pending for too long, the other reads what is new.",
        (
            "`redis.xautoclaim(stream, group, consumer, idle_ms, count=1)` returns three things; "
            "the second is the list of messages."
        ),
        '`redis.xreadgroup(group, consumer, {stream: ">"}, count=1)`, without `block`.',
    ),
)

PROBLEMS = (
    _KEYS,
    _READ_THROUGH,
    _JITTER,
    _NEGATIVE,
    _AFTER_COMMIT,
    _RELEASE,
    _FLIGHT,
    _SURVIVES,
    _OUTBOX,
    _QUEUE,
    _STREAM,
)
