"""The exercises of lesson 10."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pglab.exercises import (
    Answer,
    Behaves,
    NotYet,
    Problem,
    Solution,
    World,
    Wrong,
    error_of,
    expect,
)

if TYPE_CHECKING:
    import psycopg

__all__ = ["PROBLEMS"]

# 1

_ADDRESSES: Final = (
    ("postgres", "simple", "db.example.org", 5432, "evolution"),
    ("postgres", "p@ss/w:rd", "db.example.org", 5432, "evolution"),
    ("postgres", "50%-off?#&=", "db.example.org", 6543, "evolution"),
    ("postgres", "two words+one", "db.example.org", 5432, "evolution"),
    ("ana@shop", "contraseña", "db.example.org", 5432, "evolution api"),
    ("postgres", "x", "db.example.org", 5432, "what/ever?"),
)


def _libpq_reads_it_back(answer: Answer, world: World) -> None:  # noqa: ARG001
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    for user, password, host, port, database in _ADDRESSES:
        wanted = {
            "user": user, "password": password, "host": host, "port": str(port), "dbname": database,
        }  # fmt: skip
        url = answer.database_url(user, password, host, port, database)
        expect(isinstance(url, str), "database_url is to return a str.", repr(url))
        seen = f"database_url({user!r}, {password!r}, {host!r}, {port}, {database!r})\n→ {url}"
        expect(url.startswith(("postgresql://", "postgres://")), "This is no URL.", seen)
        try:
            found = conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            raise NotYet(f"libpq cannot read it: {str(error).strip()}.", seen) from None
        for name, value in wanted.items():
            expect(
                str(found.get(name, "")) == value,
                f"libpq reads the {name} as {found.get(name, '')!r}, not as {value!r}.",
                seen,
            )


_URL = Problem(
    id="connections.1",
    title="A URL that survives any password",
    prompt="""\
Write `database_url(user, password, host, port, database)`. It returns a URL of the seed's form,
which begins with `postgresql://` and has these five in their order, and from which libpq reads the
same five values again, whatever signs user, password and database hold. (The host needs no care: it
is a plain name.)""",
    answer="python",
    hidden=False,
    starter="""\
def database_url(user: str, password: str, host: str, port: int, database: str) -> str:
    ...""",
    checks=(Behaves(scenario=_libpq_reads_it_back),),
    solutions=(
        Solution(
            python="""\
from urllib.parse import quote


def database_url(user: str, password: str, host: str, port: int, database: str) -> str:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return f"postgresql://{login}@{host}:{port}/{quote(database, safe='')}\"""",
            why="Five signs have a meaning in a URL: `:` `@` `/` `?` and `#`, and `%` begins an "
            "encoded one. `quote(…, safe='')` encodes them all. Without `safe=''` it leaves `/` "
            "alone, and `quote_plus` writes a space as `+`, which libpq reads as a plus.",
        ),
        Solution(
            python="""\
def database_url(user: str, password: str, host: str, port: int, database: str) -> str:
    def encoded(text: str) -> str:
        return "".join(f"%{byte:02X}" for byte in text.encode())

    return f"postgresql://{encoded(user)}:{encoded(password)}@{host}:{port}/{encoded(database)}\"""",
            why="To encode every byte is ugly and right.",
        ),
    ),
    wrong=(
        Wrong(
            python="""\
def database_url(user, password, host, port, database):
    return f"postgresql://{user}:{password}@{host}:{port}/{database}\"""",
            says="libpq reads the password as 'p', not as 'p@ss/w:rd'",
        ),
        Wrong(
            python="""\
from urllib.parse import quote
def database_url(user, password, host, port, database):
    return f"postgresql://{quote(user)}:{quote(password)}@{host}:{port}/{quote(database)}\"""",
            says="libpq",
        ),
        Wrong(
            python="""\
from urllib.parse import quote_plus as q
def database_url(user, password, host, port, database):
    return f"postgresql://{q(user)}:{q(password)}@{host}:{port}/{q(database)}\"""",
            says="not as 'two words+one'",
        ),
        Wrong(
            python="""\
def database_url(user, password, host, port, database):
    return f"user={user} password={password} host={host} port={port} dbname={database}\"""",
            says="This is no URL.",
        ),
    ),
    hints=(
        "Which signs of a password would end it, if they stood there as they are?",
        "The standard library encodes them: `urllib.parse.quote`. Read what `safe` is for.",
    ),
)

# 2


class _PoolOfOne:
    """A pool with a single, real connection, which tells at once when it is asked for too many."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.in_use = False

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        """As psycopg_pool's: commits at the end of the block, rolls back after an error."""
        from psycopg_pool import PoolTimeout

        if self.in_use:
            raise PoolTimeout("couldn't get a connection: the only one is in use")
        self.in_use = True
        try:
            with self._connection.transaction():
                yield self._connection
        finally:
            self.in_use = False


def _thinks_without(answer: Answer, world: World) -> None:
    pool = _PoolOfOne(world.connect(autocommit=True))
    other = world.connect(autocommit=True)
    row = other.execute(
        "SELECT chat_id, body FROM (SELECT DISTINCT ON (chat_id) chat_id, body FROM messages "
        "WHERE body IS NOT NULL ORDER BY chat_id, sent_at DESC, id DESC) AS newest "
        "WHERE body <> '' ORDER BY chat_id LIMIT 1"
    ).fetchone()
    assert row is not None  # noqa: S101
    chat_id, newest = row
    asked: list[tuple[str, bool]] = []

    def think(body: str) -> str:
        asked.append((body, pool.in_use))
        return f"about: {body}"

    answer.answer(pool, chat_id, think)
    expect(len(asked) == 1, f"think was called {len(asked)} times.")
    body, held = asked[0]
    expect(
        not held,
        "The connection is held while think works. That takes seconds, and everybody else waits.",
    )
    expect(
        body == newest, "think is to be asked about the newest message.", f"{body!r} ≠ {newest!r}"
    )
    stored = other.execute("SELECT chat_id, body FROM answers").fetchall()
    expect(
        stored == [(chat_id, f"about: {newest}")],
        "The answer is not in the table answers, once.",
        repr(stored),
    )

    def fails(_: str) -> str:
        raise ValueError("no model answers")

    error_of(lambda: answer.answer(pool, chat_id, fails))
    expect(not pool.in_use, "After an error of think the connection is never given back.")


_THINKING = Problem(
    id="connections.2",
    title="Think without holding a connection",
    prompt="""\
Write `answer(pool, chat_id, think)`. It reads the `body` of the chat's newest message that has one
(by `sent_at`, then `id`), asks `think(body)`, which takes seconds, and stores `chat_id` and what
came back in the table `answers (chat_id bigint, body text)`. No connection of the pool is held
while `think` works. `pool.connection()` works as psycopg_pool's does: it commits at the end of the
`with` block.""",
    answer="python",
    starter="""\
NEWEST = \"\"\"
    SELECT body FROM messages WHERE chat_id = %s AND body IS NOT NULL
    ORDER BY sent_at DESC, id DESC LIMIT 1
\"\"\"


def answer(pool, chat_id, think):
    ...  # with pool.connection() as connection: read, think and store""",
    setup="CREATE TABLE answers (chat_id bigint NOT NULL, body text NOT NULL)",
    hidden=False,  # the scenario looks its chat up itself
    checks=(Behaves(scenario=_thinks_without, database=True),),
    solutions=(
        Solution(
            python="""\
NEWEST = \"\"\"
    SELECT body FROM messages WHERE chat_id = %s AND body IS NOT NULL
    ORDER BY sent_at DESC, id DESC LIMIT 1
\"\"\"


def answer(pool, chat_id, think):
    with pool.connection() as connection:
        (body,) = connection.execute(NEWEST, [chat_id]).fetchone()
    text = think(body)
    with pool.connection() as connection:
        connection.execute("INSERT INTO answers VALUES (%s, %s)", [chat_id, text])""",
            why="Two short blocks, and nothing between them but the thinking. A pool of 5 then "
            "serves hundreds of chats that wait for a model, for each is in the database for "
            "milliseconds. The price: somebody may write into the chat meanwhile, so what must not "
            "have changed has to be checked again in the second block.",
        ),
    ),
    wrong=(
        Wrong(
            python="""\
def answer(pool, chat_id, think):
    with pool.connection() as connection:
        (body,) = connection.execute(
            "SELECT body FROM messages WHERE chat_id = %s AND body IS NOT NULL "
            "ORDER BY sent_at DESC, id DESC LIMIT 1", [chat_id]).fetchone()
        connection.execute("INSERT INTO answers VALUES (%s, %s)", [chat_id, think(body)])""",
            says="The connection is held while think works.",
        ),
        Wrong(
            python="""\
def answer(pool, chat_id, think):
    with pool.connection() as connection:
        (body,) = connection.execute(
            "SELECT body FROM messages WHERE chat_id = %s AND body IS NOT NULL "
            "ORDER BY sent_at DESC, id DESC LIMIT 1", [chat_id]).fetchone()
        text = think(body)
        with pool.connection() as other:
            other.execute("INSERT INTO answers VALUES (%s, %s)", [chat_id, text])""",
            says="couldn't get a connection",
        ),
        Wrong(
            python="""\
def answer(pool, chat_id, think):
    with pool.connection() as connection:
        (body,) = connection.execute(
            "SELECT body FROM messages WHERE chat_id = %s AND body IS NOT NULL "
            "ORDER BY sent_at LIMIT 1", [chat_id]).fetchone()
    text = think(body)
    with pool.connection() as connection:
        connection.execute("INSERT INTO answers VALUES (%s, %s)", [chat_id, text])""",
            says="think is to be asked about the newest message.",
        ),
        Wrong(
            python="""\
def answer(pool, chat_id, think):
    with pool.connection() as connection:
        (body,) = connection.execute(
            "SELECT body FROM messages WHERE chat_id = %s AND body IS NOT NULL "
            "ORDER BY sent_at DESC, id DESC LIMIT 1", [chat_id]).fetchone()
    return think(body)""",
            says="The answer is not in the table answers, once.",
        ),
    ),
    hints=(
        "For how long does this function really need a connection?",
        "One `with` block to read, then `think`, then another `with` block to store.",
    ),
)

# 3

_LOADS: Final = (
    # requests a second, seconds each, at most → connections
    (200, 0.010, 20, 3),
    (200, 0.100, 50, 25),
    (200, 0.100, 20, 20),
    (1, 0.001, 20, 1),
    (0, 0.100, 20, 1),
    (80, 0.1, 20, 10),
    (400, 0.02, 20, 10),
)


def _by_littles_law(answer: Answer, world: World) -> None:  # noqa: ARG001
    for rate, seconds, at_most, wanted in _LOADS:
        found = answer.pool_size(rate, seconds, at_most)
        seen = f"pool_size({rate}, {seconds}, {at_most}) → {found!r}"
        expect(isinstance(found, int), "A pool has a whole number of connections.", seen)
        busy = f"On average {rate * seconds:.3g} are busy; at 80 % that takes {wanted}."
        if at_most == wanted and rate * seconds > 0.8 * at_most:
            busy = f"The server has no more than {at_most} for us."
        noun = "connection" if wanted == 1 else "connections"
        expect(found == wanted, f"{wanted} {noun} would be right. {busy}", seen)


_LITTLE = Problem(
    id="connections.3",
    title="As many as Little's law says",
    prompt="""\
Write `pool_size(requests_per_s, seconds_each, at_most)`: how many connections a pool needs, so that
on average no more than 80 % of them are busy. Little's law gives the busy ones. At least 1, and at
most `at_most`, which is what the server has for us. Whole numbers only.""",
    answer="python",
    hidden=False,
    starter="""\
def pool_size(requests_per_s: float, seconds_each: float, at_most: int) -> int:
    ...""",
    checks=(Behaves(scenario=_by_littles_law),),
    solutions=(
        Solution(
            python="""\
import math


def pool_size(requests_per_s: float, seconds_each: float, at_most: int) -> int:
    busy = requests_per_s * seconds_each
    # Rounded first: 80 × 0.1 / 0.8 is a hair above 10 in binary.
    return max(1, min(at_most, math.ceil(round(busy / 0.8, 9))))""",
            why="Little's law: the number inside is the rate of arrival times the time that each "
            "stays. 200 requests a second that take 10 ms each keep 2 connections busy, not 200. "
            "A pool as large as the number of clients only moves the queue into the server.",
        ),
    ),
    wrong=(
        Wrong(
            python="""\
def pool_size(requests_per_s, seconds_each, at_most):
    return at_most""",
            says="3 connections would be right. On average 2 are busy; at 80 % that takes 3.",
        ),
        Wrong(
            python="""\
import math
def pool_size(requests_per_s, seconds_each, at_most):
    return max(1, min(at_most, math.ceil(requests_per_s * seconds_each)))""",
            says="3 connections would be right.",
        ),
        Wrong(
            python="""\
import math
def pool_size(requests_per_s, seconds_each, at_most):
    return max(1, math.ceil(requests_per_s * seconds_each / 0.8 - 1e-9))""",
            says="The server has no more than 20 for us.",
        ),
        Wrong(
            python="""\
import math
def pool_size(requests_per_s, seconds_each, at_most):
    return min(at_most, math.ceil(requests_per_s * seconds_each / 0.8 - 1e-9))""",
            says="1 connection would be right.",
        ),
        Wrong(
            python="""\
def pool_size(requests_per_s, seconds_each, at_most):
    return max(1, min(at_most, requests_per_s * seconds_each / 0.8))""",
            says="A pool has a whole number of connections.",
        ),
    ),
    hints=(
        "Little's law: how many are inside = how many come a second × how long each stays.",
        "Divide that by 0.8, round up, and keep it between 1 and `at_most`.",
    ),
)

# 4

_SEEN: Final = (
    "SELECT current_setting('work_mem'), now() <> statement_timestamp(), "
    "txid_current() = txid_current()"
)


def _leaves_no_trace(answer: Answer, world: World) -> None:
    import psycopg
    from psycopg.pq import TransactionStatus

    connection = world.connect(autocommit=True)
    default = connection.execute("SHOW work_mem").fetchone()

    def trace(when: str) -> None:
        status = connection.info.transaction_status
        expect(status == TransactionStatus.IDLE, f"{when} a transaction is left open.")
        now = connection.execute("SHOW work_mem").fetchone()
        expect(
            now == default,
            f"{when} the setting is still there, for whoever gets this server process next.",
            f"SHOW work_mem → {now}, before: {default}",
        )

    rows = answer.report(connection, _SEEN)
    expect(isinstance(rows, list) and len(rows) == 1, "report returns the rows.", repr(rows))
    work_mem, in_transaction, _ = rows[0]
    expect(work_mem == "64MB", "The query does not run with 64MB.", f"work_mem = {work_mem}")
    expect(
        in_transaction,
        "Setting and query are two transactions: a pooler may send them to two server processes.",
    )
    trace("Afterwards")
    error = error_of(lambda: answer.report(connection, "SELECT 1 / 0"))
    expect(
        isinstance(error, psycopg.errors.DivisionByZero),
        "An error of the query is the caller's business, and must come out.",
        repr(error),
    )
    trace("After a query that fails")


_POOLED = Problem(
    id="connections.4",
    title="A setting that a pooler cannot leak",
    prompt="""\
Write `report(connection, query)`: it runs `query` with `work_mem` at `64MB` and returns its rows as
a list. The connection comes through PgBouncer in transaction mode, and is in autocommit mode. So
setting and query must reach the same server process, and the setting must be gone afterwards, also
if the query fails.""",
    answer="python",
    hidden=False,
    starter="""\
def report(connection, query):
    ...""",
    checks=(Behaves(scenario=_leaves_no_trace, database=True),),
    solutions=(
        Solution(
            python="""\
def report(connection, query):
    with connection.transaction():
        connection.execute("SET LOCAL work_mem = '64MB'")
        return connection.execute(query).fetchall()""",
            why="In transaction mode a server process is yours from BEGIN to COMMIT, and `SET "
            "LOCAL` lives exactly as long. An error rolls both back. `SET` would stay with the "
            "process, which somebody else gets next.",
        ),
        Solution(
            python="""\
def report(connection, query):
    with connection.transaction():
        connection.execute("SELECT set_config('work_mem', '64MB', true)")
        return connection.execute(query).fetchall()""",
            why="`set_config(…, true)` is `SET LOCAL` as a function, which takes parameters.",
        ),
    ),
    wrong=(
        Wrong(
            python="""\
def report(connection, query):
    connection.execute("SET work_mem = '64MB'")
    return connection.execute(query).fetchall()""",
            says="Setting and query are two transactions",
        ),
        Wrong(
            python="""\
def report(connection, query):
    with connection.transaction():
        connection.execute("SET work_mem = '64MB'")
        return connection.execute(query).fetchall()""",
            says="Afterwards the setting is still there",
        ),
        Wrong(
            python="""\
def report(connection, query):
    connection.execute("SET LOCAL work_mem = '64MB'")
    return connection.execute(query).fetchall()""",
            says="The query does not run with 64MB.",
        ),
        Wrong(
            python="""\
def report(connection, query):
    with connection.transaction():
        connection.execute("SET LOCAL work_mem = '64MB'")
        try:
            return connection.execute(query).fetchall()
        except Exception:
            return []""",
            says="An error of the query is the caller's business",
        ),
    ),
    hints=(
        "What keeps a server process yours, in transaction mode?",
        "`with connection.transaction():`, and a kind of SET that ends with it.",
    ),
)

# 5

_WANTED: Final = {
    "statement_timeout": "5s",
    "lock_timeout": "1s",
    "idle_in_transaction_session_timeout": "10s",
    "application_name": "gateway",
}


def _has_limits(answer: Answer, world: World) -> None:
    given: list[dict[str, Any]] = []

    def connect(**options: Any) -> psycopg.Connection[Any]:
        given.append(options)
        return world.connect(**options)

    connection = answer.open_connection(connect)
    expect(len(given) == 1, "connect is to be called once.", repr(given))
    expect(
        connection is not None and not connection.closed,
        "open_connection is to return an open connection.",
        repr(connection),
    )
    wait = connection.info.get_parameters().get("connect_timeout", "")
    expect(
        wait == "3",
        "A server that does not answer is waited for longer than 3 seconds.",
        f"connect_timeout = {wait or 'not set'}",
    )
    # What a pool does between two users of a connection.
    connection.rollback()
    connection.autocommit = True
    connection.execute("RESET ALL")
    for name, wanted in _WANTED.items():
        row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
        expect(
            row == (wanted,),
            f"After a RESET ALL, as poolers do it, {name} is {row and row[0]!r}, not {wanted!r}.",
        )


_LIMITS = Problem(
    id="connections.5",
    title="A connection with limits",
    prompt="""\
Write `open_connection(connect)`. `connect` takes what `psycopg.connect` takes as keywords; server,
database and password it knows already. Return a connection that waits at most 3 s for the server,
and has a `statement_timeout` of 5 s, a `lock_timeout` of 1 s, an
`idle_in_transaction_session_timeout` of 10 s, and the `application_name` `gateway`. The settings
must still hold after a `RESET ALL`.""",
    answer="python",
    hidden=False,
    starter="""\
def open_connection(connect):
    return connect()  # with limits""",
    checks=(Behaves(scenario=_has_limits, database=True),),
    solutions=(
        Solution(
            python="""\
def open_connection(connect):
    return connect(
        connect_timeout=3,
        application_name="gateway",
        options=(
            "-c statement_timeout=5s -c lock_timeout=1s "
            "-c idle_in_transaction_session_timeout=10s"
        ),
    )""",
            why="What comes with the connection is the session's default, to which RESET leads "
            "back; a SET afterwards is not. `options` travels in a URL, too: "
            "`?options=-c%20statement_timeout%3D5s`. For a whole role, `ALTER ROLE … SET` does the "
            "same without touching a program. `connect_timeout` counts in whole seconds, and for "
            "each address.",
        ),
    ),
    wrong=(
        Wrong(
            python="""\
def open_connection(connect):
    return connect(application_name="gateway")""",
            says="A server that does not answer is waited for longer than 3 seconds.",
        ),
        Wrong(
            python="""\
def open_connection(connect):
    connection = connect(connect_timeout=3, application_name="gateway", autocommit=True)
    connection.execute("SET statement_timeout = '5s'")
    connection.execute("SET lock_timeout = '1s'")
    connection.execute("SET idle_in_transaction_session_timeout = '10s'")
    return connection""",
            says="After a RESET ALL, as poolers do it, statement_timeout is '0', not '5s'.",
        ),
        Wrong(
            python="""\
def open_connection(connect):
    return connect(
        connect_timeout=3,
        options="-c statement_timeout=5s -c lock_timeout=1s "
        "-c idle_in_transaction_session_timeout=10s",
    )""",
            says="application_name is",
        ),
        Wrong(
            python="""\
def open_connection(connect):
    return connect(connect_timeout=3, application_name="gateway", options=(
        "-c statement_timeout=5 -c lock_timeout=1 -c idle_in_transaction_session_timeout=10"))""",
            says="statement_timeout is '5ms', not '5s'",
        ),
    ),
    hints=(
        "Settings can travel with the connection: look at libpq's parameter `options`.",
        '`options="-c statement_timeout=5s -c …"`, and two parameters of their own.',
    ),
)

PROBLEMS = (_URL, _THINKING, _LITTLE, _POOLED, _LIMITS)
