"""The files that install and start the course agree with one another, and leak nothing."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _locked(name: str) -> dict[str, list[Version]]:
    versions: dict[str, list[Version]] = {}
    for line in (ROOT / name).read_text().splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[\w,-]+\])?==([^\s;\\]+)", line)
        if match:
            versions.setdefault(canonicalize_name(match[1]), []).append(Version(match[2]))
    return versions


def _environment() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "environment.yml").read_text())
    return loaded


def test_environment_yml_has_a_python_that_the_package_takes(project: dict[str, Any]) -> None:
    python = next(
        entry for entry in _environment()["dependencies"] if str(entry).startswith("python=")
    )
    allowed = Requirement(f"python {project['requires-python']}").specifier
    assert Version(python.removeprefix("python=")) in allowed


def test_environment_yml_installs_the_lock_and_the_package() -> None:
    text = (ROOT / "environment.yml").read_text()
    pip = next(entry["pip"] for entry in _environment()["dependencies"] if isinstance(entry, dict))
    assert pip == ["--requirement requirements.lock"]
    # pip takes nothing unhashed beside a lock with hashes: the package comes in a second step.
    install = "pip install --no-deps --editable ."
    assert install in text
    assert install in (ROOT / "postBuild").read_text()
    assert install in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_lock_holds_what_pyproject_asks_for(lock: str, project: dict[str, Any]) -> None:
    wanted = [Requirement(text) for text in project["dependencies"]]
    if lock == "requirements-dev.lock":
        for extra in project["optional-dependencies"].values():
            wanted += [Requirement(text) for text in extra]
    locked = _locked(lock)
    for requirement in wanted:
        versions = locked.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement.name} is not in {lock}; run: make lock"
        for version in versions:
            assert requirement.specifier.contains(version, prereleases=True), requirement


def test_both_locks_pin_the_same_versions() -> None:
    learner, developer = _locked("requirements.lock"), _locked("requirements-dev.lock")
    assert {name: developer.get(name) for name in learner} == learner


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_every_pin_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    pins = re.findall(r"^[\w.\[\],-]+==.*?(?=^\S|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert len(pins) > 100
    assert [pin.splitlines()[0] for pin in pins if "--hash=sha256:" not in pin] == []
    assert "://" not in text


def test_no_committed_file_names_a_package_registry() -> None:
    # Spelled in pieces, so that this file is not one.
    hosts = "|".join(["py" + "pi.org", "files.python" + "hosted", "registry." + "npmjs"])
    found = subprocess.run(
        ["git", "grep", "-nIE", hosts, "--", "."], cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert found == ""


def test_compose_listens_on_loopback_and_uses_the_images_of_the_code() -> None:
    from pglab.config import POSTGRES_IMAGE, REDIS_IMAGE

    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert services["postgres"]["image"] == POSTGRES_IMAGE
    assert services["redis"]["image"] == REDIS_IMAGE
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert "latest" not in service["image"]
        assert "healthcheck" in service
        command = " ".join(service["command"])
        assert "--requirepass" not in command


def test_make_help_lists_every_target() -> None:
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    for target in ("help", "lab", "test", "bench", "notebooks", "lint"):
        assert re.search(rf"make {target}\s+\w", said), target


def test_version_is_the_same_in_the_package_and_in_pyproject(project: dict[str, Any]) -> None:
    import pglab

    assert pglab.__version__ == project["version"]


def test_readme_maps_every_lesson() -> None:
    readme = (ROOT / "README.md").read_text()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert f"(notebooks/{notebook.name})" in readme


def test_relative_links_of_the_documents_lead_somewhere() -> None:
    broken = [
        (document.name, target)
        for document in (*ROOT.glob("*.md"), *(ROOT / "data").rglob("*.md"))
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text())
        if "://" not in target and not (document.parent / target).exists()
    ]
    assert broken == []


def test_ci_run_is_valid_bash_and_runs_the_commands_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "make test" in script.read_text()
    assert "make lint" in script.read_text()


def test_workflow_calls_ci_run() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = workflow["jobs"]["test"]["steps"]
    assert any(".ci/run" in step.get("run", "") for step in steps)
