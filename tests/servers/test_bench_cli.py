"""``pglab bench``, as a person or a program calls it, on real servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psycopg
import pytest
from bench_case_support import scratch_databases, servers_in_memory
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from servers.faults import wait_until

from pglab.bench import load
from pglab.cli import cli

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("bench-cli")]

FEW = ["--size", "2000", "--rounds", "2", "--round-seconds", "0.005", "--warm-up", "0.05"]


@pytest.fixture(scope="module", autouse=True)
def server_url():
    """Servers of this module's own, in place of the fixture of this name."""
    with servers_in_memory() as url:
        yield url


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bench")


def command(*arguments):
    return [sys.executable, "-m", "pglab", "bench", *arguments]


@pytest.fixture
def bench(folder, server_url):
    """Run pglab bench in a folder of this module's own; check its exit status."""

    def run(*arguments, status=0):
        done = subprocess.run(
            command(*arguments), cwd=folder, env={**os.environ, "COLUMNS": "100"},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert conninfo_to_dict(server_url)["password"] not in done.stdout + done.stderr
        assert scratch_databases(server_url) == []
        return done

    return run


@pytest.fixture(scope="module")
def ran(folder, server_url):
    """One run of a small case, as JSON: what it printed, and the file that it kept."""
    file = folder / "first" / "session-name.json"
    done = subprocess.run(
        command("run", "session-name", *FEW, "--json", "--output", str(file)),
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done, file


def test_list_for_people(bench):
    said = bench("list").stdout
    assert "indexes: Indexed against unindexed" in said
    assert "chat-page" in said
    assert "no index | chat only | composite" in said
    assert "pglab bench run chat-page --quick" in said


def test_list_for_programs(bench):
    found = json.loads(bench("list", "--json").stdout)
    by_name = {each["name"]: each for each in found}
    assert len(by_name) == len(found) > 10
    case = by_name["chat-page"]
    assert case["group"] == "indexes"
    assert case["variants"] == ["no index", "chat only", "composite"]
    assert case["question"].endswith("?")
    assert max(case["sizes"]) >= 1_000_000


def test_a_run_prints_json_that_can_be_read(ran, folder):
    done, file = ran
    printed = folder / "printed.json"
    printed.write_text(done.stdout)
    for path in (file, printed):
        result = load(path)
        at = result.case("session-name").at(2_000)
        assert [len(each.rounds) for each in at.variants] == [2, 2]
        assert result.options["rounds"] == 2
        assert result.complete
    assert json.loads(done.stdout) == json.loads(file.read_text())
    assert f"kept in {file}" in done.stderr
    assert f"pglab bench report {file}" in done.stderr


def test_a_quick_run_for_people_keeps_a_file_by_itself(bench, folder):
    said = bench("run", "session-name", "--quick", *FEW).stdout
    assert "Does an index help on a column that is UNIQUE already?" in said
    assert "unique and index" in said
    (file,) = (folder / "bench-results").glob("*.json")
    assert [at.size for at in load(file).case().sizes] == [2_000]


def test_under_load(bench, folder):
    few = ["session-name", *FEW, "--rounds", "1", "--seconds", "0.1"]
    bench("run", *few, "--clients", "1,2", "--output", "load.json")
    names = [each.name for each in load(folder / "load.json").case().at().variants]
    assert names[:2] == ["unique, 1 client", "unique, 2 clients"]
    bench("run", *few, "--rate", "100", "--output", "open.json")
    assert load(folder / "open.json").case().at().variants[0].name == "unique, 100/s"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["sesion-name"], 1, "there is no case or group 'sesion-name'; did you mean session-name"),
        (["zzz"], 1, "no case or group 'zzz'; see: pglab bench list"),
        (["session-name", "--size", "huge"], 2, "--size 'huge' is no number of messages"),
        (["session-name", "--size", "499"], 2, "500 or more"),
        (["session-name", "--size", "-5"], 2, "'-5'"),
        (["session-name", "--clients", "1,x"], 2, "--clients '1,x': give whole numbers from 1"),
        (["session-name", "--clients", "0"], 2, "--clients '0'"),
        (["session-name", "--clients", "1", "--rate", "5"], 2, "two kinds of load"),
        (["session-name", "--clients", "1", "--cold"], 2, "leave out the load"),
        (["session-name", "--seconds", "1"], 2, "add --clients or --rate"),
        (["session-name", "--rate", "0"], 1, "rate=0.0; give a number above 0"),
        (["session-name", "--rate", "nan"], 1, "rate=nan"),
        (["session-name", "--clients", "1", "--seconds", "0"], 1, "seconds=0.0"),
        (["session-name", "--rounds", "0"], 1, "rounds=0; at least 1 is needed"),
        (["session-name", "--rounds", "many"], 2, "'many' is not a valid integer"),
        (["session-name", "--round-seconds", "nan"], 1, "round_seconds=nan"),
        (["session-name", "--warm-up", "-1"], 1, "warm_up_seconds=-1.0"),
        (["session-name", "--placement", "both"], 1, "placement 'both' is unknown; use one of"),
        (["session-name", "--seed", "-1"], 1, "seed=-1"),
        ([], 2, "Missing argument"),
    ],
)
def test_what_makes_no_sense_is_one_message(tmp_path, arguments, status, said):
    file = tmp_path / "refused.json"
    done = CliRunner().invoke(cli, ["bench", "run", *arguments, "--output", str(file)])
    assert done.exit_code == status
    assert said in done.stderr
    assert done.stdout == ""
    assert not file.exists()


def test_compare_with_itself(bench, ran):
    file = str(ran[1])
    said = bench("compare", file, file).stdout
    assert "session-name" in said
    found = json.loads(bench("compare", file, file, "--json").stdout)
    assert "session-name" in json.dumps(found)


def test_compare_refuses_another_machine_unless_told(bench, ran, folder):
    document = json.loads(ran[1].read_text())
    document["environment"]["machine"]["cpu"] = "Babbage's engine"
    other = folder / "other.json"
    other.write_text(json.dumps(document))
    done = bench("compare", str(ran[1]), str(other), status=1)
    assert "Babbage's engine" in done.stderr
    assert "--force" in done.stderr
    assert "session-name" in bench("compare", str(ran[1]), str(other), "--force").stdout


def test_report_writes_one_page(bench, ran, folder):
    said = bench("report", str(ran[1])).stdout.strip()
    page = (folder / said).read_text()
    assert said == str(ran[1].with_suffix(".html"))
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "UNIQUE already?" in page
    bench("report", str(ran[1]), "--markdown", "--output", "pages/it.md")
    assert "UNIQUE already?" in (folder / "pages" / "it.md").read_text()


@pytest.mark.parametrize("verb", ["report", "compare"])
def test_a_file_that_is_none(bench, ran, folder, verb):
    cut = folder / "cut.json"
    cut.write_text(ran[1].read_text()[:-400])
    others = [str(ran[1])] if verb == "compare" else []
    assert "cut" in bench(verb, str(cut), *others, status=1).stderr
    assert "no-such.json" in bench(verb, "no-such.json", *others, status=1).stderr


def transactions(url, database):
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = %s", [database]
        ).fetchone()
    return row[0] if row else 0


def test_ctrl_c_keeps_the_finished_rounds(folder, server_url):
    file = folder / "stopped.json"
    process = subprocess.Popen(
        command(
            "run", "floor-postgres", "--size", "500", "--rounds", "100000", "--round-seconds",
            "0.005", "--warm-up", "0.01", "--no-progress", "--output", str(file),
        ),
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        (name,) = wait_until("its database is there", lambda: scratch_databases(server_url))
        while name.startswith("pglab_building_"):
            (name,) = wait_until("it is filled", lambda: scratch_databases(server_url))
        # Setting up and warming up take some hundreds.
        wait_until("rounds are run", lambda: transactions(server_url, name) > 5_000)
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, complaints
    assert "Traceback" not in complaints
    result = load(file)
    assert "Ctrl-C" in result.stopped
    assert "Ctrl-C" in said
    variants = result.case("floor-postgres").at(500).variants
    assert len(variants) == 3
    rounds = [len(each.rounds) for each in variants]
    assert min(rounds) >= 1
    assert max(rounds) - min(rounds) <= 1
    assert result.environment["postgres"]["version"]
    assert scratch_databases(server_url) == []
    assert idle_sessions(server_url) == 0


def test_a_run_that_is_killed_keeps_the_finished_sizes(bench, folder, server_url):
    file = folder / "killed.json"
    process = subprocess.Popen(
        command("run", "floor-postgres", "inbox-long-chats", "--quick", "--output", str(file)),
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until("a size is kept", file.exists)
    finally:
        process.kill()
        process.communicate()
    result = load(file)
    assert result.stopped == "it is still running"
    assert result.cases[0].sizes[0].variants[0].rounds
    assert scratch_databases(server_url) != []
    bench("run", "floor-postgres", *FEW)  # removes what was left


def idle_sessions(url):
    with psycopg.connect(make_conninfo(url, application_name="the test")) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pglab bench'"
        ).fetchone()
    return count


def test_ctrl_c_before_anything_is_finished(folder, server_url):
    file = folder / "nothing.json"
    process = subprocess.Popen(
        command("run", "floor-postgres", "--size", "50000", "--output", str(file)),
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_until("its database is there", lambda: scratch_databases(server_url))
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, complaints
    assert "Ctrl-C ended it, and nothing was finished" in complaints
    assert "Traceback" not in complaints
    assert not file.exists()
    assert scratch_databases(server_url) == []


def test_a_refused_plan_is_one_message_with_both_plans(bench, folder):
    # So few sessions are on one page, and PostgreSQL rightly reads that.
    few = ["session-name", "--size", "500", *FEW[2:]]
    for load_too in ([], ["--clients", "1"]):
        done = bench("run", *few, *load_too, "--output", "refused.json", status=1)
        assert "claimed: the index sessions_instance_name_key" in done.stderr
        assert "Seq Scan on sessions" in done.stderr
        assert "try a larger --size" in done.stderr
        assert done.stdout == ""
    assert not (folder / "refused.json").exists()
