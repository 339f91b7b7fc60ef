"""``pglab bench``: thin commands over ``pglab.bench``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pglab.cli_shared import json_option, print_json
from pglab.errors import BenchError, ConfigError

if TYPE_CHECKING:
    from pglab.bench.results import Result

__all__ = ["bench"]

_FOLDER: Final = Path("bench-results")
_INTERRUPTED: Final = 130


@click.group()
def bench() -> None:
    """Measure: indexed against unindexed, cached against uncached, and more."""


@bench.command("list")
@json_option
def list_cases(as_json: bool) -> None:
    """List the cases that can be run."""
    from pglab.bench.cases import GROUPS, shipped

    cases = shipped()
    if as_json:
        print_json([
            {
                "name": case.name, "group": case.group, "question": case.question,
                "variants": [variant.name for variant in case.variants],
                "sizes": list(case.sizes), "expected": case.expected,
            }
            for case in cases
        ])  # fmt: skip
        return
    width = max(len(case.name) for case in cases)
    for group, heading in GROUPS.items():
        click.secho(f"{group}: {heading}", bold=True)
        for case in cases:
            if case.group == group:
                click.echo(f"  {case.name:<{width}}  {case.question}")
                click.echo(f"  {'':<{width}}  {' | '.join(v.name for v in case.variants)}")
    click.echo("\nfidelity: Does the harness measure what pgbench measures?")
    click.echo("Run one, a group, or all: pglab bench run chat-page --quick")


@bench.command(
    epilog="""\b
Examples:
  pglab bench run chat-page --quick
  pglab bench run indexes cached --size medium --output mine.json
  pglab bench run chat-page --clients 1,2,4,8
  pglab bench run fidelity"""
)
@click.argument("cases", nargs=-1, required=True, metavar="CASE…")
@click.option(
    "--size",
    help="Largest number of messages, or tiny, small, medium, large. Default: each case's own.",
)
@click.option("--rounds", type=int, help="Interleaved rounds of each variant.  [default: 15]")
@click.option(
    "--quick", is_flag=True, help="Small sizes, few rounds: all cases in less than 3 minutes."
)
@click.option(
    "--placement",
    default="auto",
    show_default=True,
    help="On which cores: auto, one-core, two-cores, unpinned.",
)
@click.option("--seed", type=int, help="Of data, parameters and the order of variants.")
@click.option("--round-seconds", type=float, help="Least duration of a round.  [default: 0.1]")
@click.option("--warm-up", type=float, help="Most seconds of warming up.  [default: 2]")
@click.option(
    "--cold", is_flag=True, help="Measure first look-ups too: warm, and with caches emptied."
)
@click.option("--clients", help="Closed loop with so many clients at a time, such as 1,2,4,8.")
@click.option("--rate", type=float, help="Open loop: so many operations a second, come what may.")
@click.option("--seconds", type=float, help="How long each load lasts.  [default: 3]")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the result is kept.  [default: bench-results/<time>.json]",
)
@click.option("--no-progress", is_flag=True, help="Show no bar.")
@json_option
def run(
    *,
    cases: Sequence[str],
    size: str | None,
    rounds: int | None,
    quick: bool,
    placement: str,
    seed: int | None,
    round_seconds: float | None,
    warm_up: float | None,
    cold: bool,
    clients: str | None,
    rate: float | None,
    seconds: float | None,
    output: Path | None,
    no_progress: bool,
    as_json: bool,
) -> None:
    """Run one CASE or several, groups of them, or all.

    Ctrl-C keeps the rounds that are finished.
    """
    from pglab.bench import cases as known
    from pglab.bench import runner
    from pglab.bench.files import save
    from pglab.bench.options import Options
    from pglab.bench.results import Result

    if list(cases) == ["fidelity"]:
        _fidelity(quick=quick, rounds=rounds, progress=not no_progress, as_json=as_json)
        return
    chosen = known.find(cases)
    changes = {
        "rounds": rounds,
        "placement": placement,
        "seed": seed,
        "round_seconds": round_seconds,
        "warm_up_seconds": warm_up,
    }
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    options = Options.quick(**given) if quick else Options(**given)
    loaded = clients is not None or rate is not None
    if clients is not None and rate is not None:
        raise ConfigError("--clients and --rate are two kinds of load; give one of them")
    if loaded and cold:
        raise ConfigError("--cold looks at first look-ups, of one client; leave out the load")
    if seconds is not None and not loaded:
        raise ConfigError("--seconds is how long a load lasts; add --clients or --rate")
    target = output or _FOLDER / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    try:
        if loaded:
            from pglab.bench import under_load

            result = under_load.run(
                chosen,
                size=None if size is None else messages(size),
                clients=_numbers(clients or "1"),
                rate=rate,
                seconds=seconds if seconds is not None else (1.0 if quick else 3.0),
                options=options,
                progress=not no_progress,
            )
        else:
            largest = None if size is None else messages(size)
            result = runner.run(
                chosen,
                largest=largest,
                quick=quick,
                options=options,
                cold=cold,
                progress=not no_progress,
                # What is finished is kept, also if the machine goes down in a long run.
                on_case=lambda found: save(found, target),
            )
    except BenchError as error:
        if isinstance(error.result, Result):
            _keep(error.result, target)
        raise
    if not result.cases:
        click.echo("pglab: Ctrl-C ended it, and nothing was finished", err=True)
        sys.exit(_INTERRUPTED)
    _keep(result, target)
    if as_json:
        from pglab.bench.records import to_json

        print_json(to_json(result))
    else:
        click.echo(str(result))
    if not result.complete:
        sys.exit(_INTERRUPTED)


def messages(size: str) -> int:
    """Return a size that was given by name or by number.

    Raises:
        ConfigError: it is neither.
    """
    from pglab.dataset import SIZES

    plain = size.replace("_", "").replace(",", "")
    if plain.isdigit() and int(plain) >= 500:
        return int(plain)
    if size in SIZES:
        return SIZES[size]
    raise ConfigError(
        f"--size {size!r} is no number of messages (500 or more) and none of {', '.join(SIZES)}"
    )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(word) for word in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        raise ConfigError(f"--clients {text!r}: give whole numbers from 1, such as 1,2,4,8")
    return found


def _keep(result: Result, target: Path) -> None:
    from pglab.bench.files import save

    save(result, target)
    click.echo(f"kept in {target}; a page of it: pglab bench report {target}", err=True)


def _fidelity(*, quick: bool, rounds: int | None, progress: bool, as_json: bool) -> None:
    from pglab.bench.fidelity import fidelity

    given: dict[str, Any] = {} if rounds is None else {"rounds": rounds}
    found = fidelity(quick=quick, progress=progress, **given)
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(found.text())
    if not found.passed:
        sys.exit(1)


_result_file = click.Path(dir_okay=False, path_type=Path)


@bench.command()
@click.argument("before", type=_result_file)
@click.argument("after", type=_result_file)
@click.option("--force", is_flag=True, help="Compare even unlike machines or settings.")
@json_option
def compare(before: Path, after: Path, force: bool, as_json: bool) -> None:
    """Compare two results, BEFORE and AFTER, of the same machine and settings."""
    from pglab.bench.compare import compare as compare_results
    from pglab.bench.files import load

    found = compare_results(load(before), load(after), force=force)
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(found.text())


@bench.command()
@click.argument("files", nargs=-1, required=True, type=_result_file, metavar="FILE…")
@click.option(
    "--output",
    type=_result_file,
    help="The page to write.  [default: the first FILE, as .html or .md]",
)
@click.option("--markdown", is_flag=True, help="Write Markdown in place of HTML.")
def report(files: Sequence[Path], output: Path | None, markdown: bool) -> None:
    """Make one page of the results in FILE…: pictures inside, a table for each of them."""
    from pglab.bench import report as pages
    from pglab.bench.files import load

    results = [load(path) for path in files]
    page = pages.markdown_page(results) if markdown else pages.html_page(results)
    target = output or files[0].with_suffix(".md" if markdown else ".html")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    click.echo(target)
