"""``pglab monitor``: a thin command over ``pglab.monitor``."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from pglab.cli_shared import json_option, print_json
from pglab.config import Settings
from pglab.errors import NoServerError, ServerUnreachableError

if TYPE_CHECKING:
    from redis import Redis

    from pglab.monitor.measure import Reading
    from pglab.monitor.watch import Watch
    from pglab.servers.endpoint import PostgresEndpoint

__all__ = ["monitor"]


@click.command(
    epilog="""\b
Examples:
  pglab monitor monitoring               the database of the lesson
  pglab monitor --once                   one look, and end
  pglab monitor indexes --measure table_sizes --measure bloat --once
  pglab monitor --json                   one look, for programs
  DATABASE_URL=postgresql://… pglab monitor   any server; a role in pg_monitor will do"""
)
@click.argument("lesson", required=False)
@click.option("--size", default="small", show_default=True, help="Which of its databases.")
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Look once (twice within a second, for rates), and end.")
@click.option(
    "--measure",
    "names",
    multiple=True,
    metavar="NAME",
    help="Only this measure, as a table; may be repeated. --list has the names.",
)
@click.option("--list", "listed", is_flag=True, help="List the measures, and end.")
@json_option
def monitor(
    *,
    lesson: str | None,
    size: str,
    interval: float,
    once: bool,
    names: Sequence[str],
    listed: bool,
    as_json: bool,
) -> None:
    """Watch the server, and the database of a LESSON (or the server's own): a live dashboard.

    Ctrl-C ends it. It reads counters and catalogs only, as any role in pg_monitor may; what the
    role may not see is named and left out. --measure also takes those that read tables (bloat).
    """
    if listed:
        _list(as_json=as_json)
        return
    settings = Settings.from_environment()
    with ExitStack() as stack:
        source = _Source(settings, lesson, size, stack)
        if as_json:
            _print_json(source, names)
        elif names:
            _print_measures(source, names)
        elif once or not sys.stdout.isatty():
            _once(source)
        else:
            _live(source, interval)


class _Source:
    """What is watched, and how to reach it again."""

    def __init__(self, settings: Settings, lesson: str | None, size: str, stack: ExitStack) -> None:
        from pglab.servers import lifecycle

        self.database: str | None = None
        if lesson is not None:
            from pglab.lab import Lab

            with Lab(lesson, size, settings) as lab:
                self.database = lab.database
        endpoint, running = lifecycle.ensure_postgres(settings)
        stack.callback(running.release)
        self._endpoint: PostgresEndpoint = endpoint
        self.redis: Redis | None = None
        self._no_redis = "no Redis runs; run: pglab up"
        try:
            self.redis = _running_redis(settings)
        except ServerUnreachableError as error:  # what it says of PostgreSQL counts all the same
            self._no_redis = str(error)
        self._stack = stack

    def connect(self) -> Any:
        """Open a connection, closed at the end."""
        from pglab.servers.connect import connect_postgres

        return self._stack.enter_context(
            connect_postgres(
                self._endpoint, self.database, autocommit=True, application_name="pglab monitor"
            )
        )

    def look_at_redis(self, names: Sequence[str]) -> list[Reading]:
        """Ask Redis; if none runs, or it does not answer, the readings say so."""
        from pglab.monitor.measure import Reading
        from pglab.monitor.redis import REDIS_MEASURES, look_at_redis

        why = self._no_redis
        if self.redis is not None:
            try:
                return [look_at_redis(self.redis, name) for name in names]
            except ServerUnreachableError as error:
                why = str(error)
        return [Reading(measure=REDIS_MEASURES[name], skipped=why) for name in names]


def _running_redis(settings: Settings) -> Redis | None:
    """Return a client of the Redis that runs; watching must not start one."""
    from pglab.servers import lifecycle
    from pglab.servers.choose import choose
    from pglab.servers.connect import connect_redis
    from pglab.servers.home import Unit, home_of
    from pglab.servers.running import probe

    try:
        source = choose("redis", settings)
    except NoServerError:
        return None
    if source != "url" and probe(Unit(home_of(settings), "redis", source)).endpoint is None:
        return None
    endpoint, running = lifecycle.ensure_redis(settings)
    running.release()
    return connect_redis(endpoint, socket_timeout=2)


def _list(*, as_json: bool) -> None:
    from pglab.monitor.catalogue import MEASURES
    from pglab.monitor.redis import REDIS_MEASURES

    every = [*MEASURES.values(), *REDIS_MEASURES.values()]
    if as_json:
        print_json([
            {
                "name": m.name, "title": m.title, "question": m.question, "rule": m.rule,
                "columns": dict(m.columns), "needs_role": m.role, "needs_extension": m.extension,
                "reads_tables": m.reads_tables,
            }
            for m in every
        ])  # fmt: skip
        return
    width = max(len(measure.name) for measure in every)
    for measure in every:
        click.echo(f"{measure.name:<{width}}  {measure.question}")
        click.secho(f"{'':<{width}}  finds: {measure.rule}", dim=True)


def _split(names: Sequence[str]) -> tuple[list[str], list[str]]:
    from pglab.monitor.redis import REDIS_MEASURES

    own = [name for name in names if name not in REDIS_MEASURES]
    return own, [name for name in names if name in REDIS_MEASURES]


def _print_json(source: _Source, names: Sequence[str]) -> None:
    from pglab.monitor.catalogue import SURVEY
    from pglab.monitor.redis import REDIS_MEASURES
    from pglab.monitor.watch import Watch

    own, others = _split(names)
    watch = Watch(source.connect(), own if names else SURVEY)
    watch.next()
    time.sleep(0.5)
    seen = watch.next().to_json()
    redis = source.look_at_redis(others if names else list(REDIS_MEASURES))
    print_json({**seen, "redis": [reading.to_json() for reading in redis]})


def _print_measures(source: _Source, names: Sequence[str]) -> None:
    from rich.console import Console

    from pglab.monitor.asking import survey
    from pglab.monitor.terminal import reading_table

    own, others = _split(names)
    # Into a file or a pipe all columns go, whatever a terminal's width.
    console = Console(width=None if sys.stdout.isatty() else 240)
    for reading in [*survey(source.connect(), own), *source.look_at_redis(others)]:
        console.print(reading_table(reading))


def _once(source: _Source) -> None:
    from rich.console import Console

    from pglab.monitor.terminal import Dashboard
    from pglab.monitor.watch import Watch

    console = Console()
    connection = source.connect()
    watch = Watch(connection)
    watch.next()
    time.sleep(0.5)
    dashboard = Dashboard(connection.info.dbname)
    redis = source.look_at_redis(["redis_info", "redis_memory"])
    console.print(dashboard.show(watch.next(), width=console.width, redis=redis))


def _live(source: _Source, interval: float) -> None:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from pglab.monitor.terminal import Dashboard
    from pglab.monitor.watch import Watch

    console = Console()
    connection = source.connect()
    dashboard = Dashboard(connection.info.dbname)
    watch: Watch | None = Watch(connection)
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                began = time.monotonic()
                try:
                    if watch is None:
                        watch = Watch(source.connect())
                    seen = watch.next()
                    redis = source.look_at_redis(["redis_info"])
                    shown = dashboard.show(seen, width=console.width, redis=redis, every_s=interval)
                except ServerUnreachableError as error:
                    watch = None
                    shown = Text(f"{error}\n\ntrying again every {interval:g} s; Ctrl-C ends")
                live.update(shown, refresh=True)
                time.sleep(max(0.0, interval - (time.monotonic() - began)))
    except KeyboardInterrupt:
        pass  # the way to end it
