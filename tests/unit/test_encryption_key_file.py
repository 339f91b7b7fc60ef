"""A file of keys: for its owner only, whole at any moment, never overwritten, never shown."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from pglab.encryption import (
    Context,
    EncryptionError,
    FileKeys,
    KeyFileError,
    KeyMaterialError,
    UnknownKeyError,
    decrypt,
    encrypt,
)

PLACE = Context("t", "c", 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    FileKeys.create(tmp_path / "keys.json", "2026-11")
    return tmp_path / "keys.json"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def others(path: Path) -> list[str]:
    """Return what lies beside the file, the lock apart: temporary files that were left."""
    return sorted(
        p.name for p in path.parent.iterdir() if p.name not in {path.name, f"{path.name}.lock"}
    )


def test_a_new_file_is_for_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        keys = FileKeys.create(tmp_path / "keys.json", "2026-11")
        keys.add("2027-02")
        keys.backup(tmp_path / "backup.json")
    finally:
        os.umask(before)
    assert {p.name: oct(mode(p)) for p in tmp_path.iterdir()} == {
        "keys.json": "0o600",
        "backup.json": "0o600",
        "keys.json.lock": "0o600",
    }


def test_adding_using_and_removing_a_key(path: Path) -> None:
    first = FileKeys(path)
    blob = encrypt(b"x", keys=first, context=PLACE)
    second = first.add("2027-02", make_current=False)
    assert (second.current_key_id, second.key_ids) == ("2026-11", ("2026-11", "2027-02"))
    third = second.use("2027-02")
    assert third.current_key_id == FileKeys(path).current_key_id == "2027-02"
    assert decrypt(blob, keys=third, context=PLACE) == b"x"
    assert first.key_ids == ("2026-11",), "an object is what was read"
    fourth = third.remove("2026-11")
    assert fourth.key_ids == ("2027-02",)
    with pytest.raises(UnknownKeyError):
        decrypt(blob, keys=fourth, context=PLACE)
    assert others(path) == []


def test_what_would_lose_a_key_is_refused(path: Path, tmp_path: Path) -> None:
    before = path.read_bytes()
    keys = FileKeys(path)
    with pytest.raises(KeyFileError, match="exists, and may hold keys"):
        FileKeys.create(path, "other")
    with pytest.raises(KeyFileError, match="exists, and may hold keys"):
        keys.backup(path)
    with pytest.raises(KeyMaterialError, match="has a key '2026-11' already"):
        keys.add("2026-11")
    with pytest.raises(KeyFileError, match="is the current one"):
        keys.remove("2026-11")
    with pytest.raises(UnknownKeyError, match="has no key '2025'"):
        keys.remove("2025")
    with pytest.raises(UnknownKeyError, match="has no key '2025'"):
        keys.use("2025")
    with pytest.raises(KeyMaterialError, match="a key id is not"):
        keys.add("a b")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(KeyFileError, match="exists"):
        FileKeys.create(tmp_path / "link", "x")
    assert path.read_bytes() == before
    assert others(path) == ["link"]


def test_a_backup_opens_what_the_lost_file_wrapped(path: Path, tmp_path: Path) -> None:
    keys = FileKeys(path)
    blob = encrypt(b"x", keys=keys, context=PLACE)
    keys.backup(tmp_path / "backup.json")
    path.unlink()
    with pytest.raises(KeyFileError, match="cannot be read: No such file"):
        FileKeys(path)
    assert decrypt(blob, keys=FileKeys(tmp_path / "backup.json"), context=PLACE) == b"x"


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666, 0o777])
def test_a_file_that_lets_others_in_is_refused(path: Path, bits: int) -> None:
    path.chmod(bits)
    with pytest.raises(KeyFileError, match=f"mode {bits:04o}, which lets others in"):
        FileKeys(path)
    path.chmod(0o400)
    assert FileKeys(path).key_ids == ("2026-11",)


def test_what_is_no_regular_file_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(KeyFileError, match="is a symbolic link"):
        FileKeys(tmp_path / "link")
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(KeyFileError, match="no regular file"):
        FileKeys(tmp_path / "fifo")
    with pytest.raises(KeyFileError, match="no regular file"):
        FileKeys(tmp_path)
    with pytest.raises(KeyFileError, match="cannot be written"):
        FileKeys.create(tmp_path / "nowhere" / "keys.json", "x")


def test_a_folder_that_is_gone_is_a_named_error(path: Path) -> None:
    keys = FileKeys(path)
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    for change in (keys.add, keys.use, keys.remove):
        with pytest.raises(KeyFileError, match="see that the folder exists"):
            change("2027-02")
    path.parent.mkdir(exist_ok=True)


def test_a_lock_that_another_holds_is_waited_for_and_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pglab.encryption.private_file._LOCK_WAIT_S", 0.2)
    with FileLock(f"{path}.lock"), pytest.raises(KeyFileError, match="held by another process"):
        FileKeys(path).add("2027-02")
    assert FileKeys(path).add("2027-02").current_key_id == "2027-02"


def test_a_file_of_somebody_else_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(KeyFileError, match=r"belongs to user \d+, and this process runs as \d+"):
        FileKeys(path)


def damaged(path: Path) -> list[bytes]:
    content = json.loads(path.read_bytes())
    key = content["keys"]["2026-11"]
    return [
        b"",
        b"\xff\xfe",
        path.read_bytes()[:-5],
        b"[]",
        b"[" * 100_000,
        b"{}",
        json.dumps({**content, "version": 2}).encode(),
        json.dumps({**content, "current": "2025"}).encode(),
        json.dumps({**content, "current": ["2026-11"]}).encode(),
        json.dumps({**content, "keys": {}}).encode(),
        json.dumps({**content, "keys": [key]}).encode(),
        json.dumps({**content, "keys": {"2026-11": key[:-4]}}).encode(),
        json.dumps({**content, "keys": {"2026-11": 7}}).encode(),
        json.dumps({**content, "keys": {"a b": key}}).encode(),
        json.dumps({**content, "keys": {"2026-11": key, "b": key}}).encode(),
        path.read_bytes().replace(b'"keys": {', b'"keys": {"2026-11": "%s",' % key.encode()),
    ]


def test_a_damaged_file_is_a_named_error_that_shows_no_key(path: Path) -> None:
    key = json.loads(path.read_bytes())["keys"]["2026-11"]
    for content in damaged(path):
        path.write_bytes(content)
        with pytest.raises(KeyMaterialError) as caught:
            FileKeys(path)
        error: BaseException | None = caught.value
        assert key not in "".join(traceback.format_exception(error))
        assert key[:20] not in str(error)
        while error is not None:
            assert key[:20] not in str(vars(error))
            error = error.__context__


def test_keys_that_many_add_at_once_are_all_there(path: Path) -> None:
    start = threading.Barrier(8)

    def add(number: int) -> None:
        start.wait()
        FileKeys(path).add(f"key-{number}", make_current=False)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    assert set(FileKeys(path).key_ids) == {"2026-11", *(f"key-{number}" for number in range(8))}
    assert others(path) == []


def test_who_is_killed_while_adding_leaves_whole_files(path: Path) -> None:
    code = """
import itertools, sys
from pglab.encryption import FileKeys
keys = FileKeys(sys.argv[1])
for number in itertools.count():
    keys = keys.add(f"key-{number}")
    print(number, flush=True)
"""
    for _ in range(3):
        path.unlink()
        FileKeys.create(path, "2026-11")
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout
        seen = [child.stdout.readline() for _ in range(5)]
        child.send_signal(signal.SIGKILL)
        seen += child.stdout.readlines()
        child.stdout.close()
        child.wait()
        keys = FileKeys(path)
        # What was said to be there is; one more may have been written and not yet said.
        assert len(keys.key_ids) - 1 in {len(seen), len(seen) + 1}
        assert keys.add("after").current_key_id == "after"


def test_every_reader_sees_a_whole_file(path: Path) -> None:
    stop = threading.Event()

    def read() -> int:
        reads = 0
        while not stop.is_set():
            assert FileKeys(path).key_ids[0] == "2026-11"
            reads += 1
        return reads

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        keys = FileKeys(path)
        for number in range(20):
            keys = keys.add(f"key-{number}")
        stop.set()
        assert reader.result() > 0


def test_file_errors_are_what_a_caller_would_catch(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot be read") as caught:
        FileKeys(tmp_path / "none")
    assert isinstance(caught.value, EncryptionError)
