"""Keys from memory and from the environment: read strictly, and never shown."""

from __future__ import annotations

import base64
import copy
import json
import logging
import pickle
import subprocess
import sys
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglab.encryption import (
    Context,
    EncryptionError,
    EnvironmentKeys,
    KeyMaterialError,
    LocalKeys,
    UnknownKeyError,
    decrypt,
    encrypt,
    environment_value,
    generate_key,
)

ONE, TWO = generate_key(), generate_key()
VARIABLE = environment_value({"2026-11": ONE, "2025-04": TWO})
PLACE = Context("t", "c", 1)


def shapes(key: bytes) -> list[str]:
    """Return every way in which a key could show."""
    return [key.hex(), repr(key)[2:-1], base64.b64encode(key).decode()]


def shows(text: str) -> bool:
    return any(shape in text for key in (ONE, TWO) for shape in shapes(key))


def test_a_generated_key_is_32_random_bytes() -> None:
    assert len(generate_key()) == 32
    assert len({generate_key() for _ in range(100)}) == 100


def test_the_environment_variable() -> None:
    keys = EnvironmentKeys(environ={"PGLAB_KEYS": VARIABLE})
    assert keys.current_key_id == "2026-11"
    assert keys.key_ids == ("2026-11", "2025-04")
    assert keys.has("2025-04")
    assert not keys.has("2024-01")
    blob = encrypt(b"x", keys=keys, context=PLACE)
    assert decrypt(blob, keys=LocalKeys({"2026-11": ONE}), context=PLACE) == b"x"


def test_another_key_may_be_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER", f" {VARIABLE.replace(',', ' , ')} ")
    keys = EnvironmentKeys("OTHER", current="2025-04")
    assert keys.current_key_id == "2025-04"
    assert decrypt(encrypt(b"", keys=keys, context=PLACE), keys=keys, context=PLACE) == b""
    with pytest.raises(UnknownKeyError, match="'2024' is not among the keys at hand"):
        EnvironmentKeys("OTHER", current="2024")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "PGLAB_KEYS is empty or not set"),
        ("  ", "PGLAB_KEYS is empty or not set"),
        (VARIABLE.split(":")[1].split(",")[0], "entry 1 of PGLAB_KEYS is not id:key"),
        (VARIABLE + ",", "entry 3 of PGLAB_KEYS is not id:key"),
        (VARIABLE + ",a b:" + environment_value({"x": generate_key()})[2:], "a key id is not"),
        (VARIABLE + ",:" + environment_value({"x": generate_key()})[2:], "a key id is not"),
        (VARIABLE + ",x:" + base64.b64encode(ONE[:31]).decode(), "31 bytes, not 32"),
        (VARIABLE + ",x:" + base64.b64encode(ONE).decode()[:-1], "no base64"),
        (VARIABLE + ",x:" + ONE.hex(), "48 bytes, not 32"),
        (VARIABLE + ",x:clé", "no base64"),
        (VARIABLE + "," + VARIABLE, "'2026-11' is given twice"),
        (VARIABLE + ",x:" + base64.b64encode(ONE).decode(), "'2026-11' and 'x' are the same"),
    ],
    # Keys are drawn anew in each process, and the processes of a test run must name tests alike.
    ids=[
        "unset",
        "blank",
        "no id",
        "trailing comma",
        "space in id",
        "empty id",
        "31 bytes",
        "no padding",
        "hexadecimal",
        "accent",
        "id twice",
        "key twice",
    ],
)
def test_a_malformed_variable_is_named_and_not_repeated(value: str | None, message: str) -> None:
    environ = {} if value is None else {"PGLAB_KEYS": value}
    with pytest.raises(KeyMaterialError, match=message) as caught:
        EnvironmentKeys(environ=environ)
    said = "".join(traceback.format_exception(caught.value))
    assert not shows(said)
    assert value is None or value.strip() == "" or value not in said


@given(st.text(max_size=60))
def test_any_value_of_the_variable_gives_keys_or_a_named_error(value: str) -> None:
    with pytest.raises(KeyMaterialError):
        EnvironmentKeys(environ={"PGLAB_KEYS": value})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "there is no key"),
        ({"a": b""}, "key 'a' is 0 bytes, not 32"),
        ({"a": ONE + b"\n"}, "key 'a' is 33 bytes, not 32"),
        ({"a": "text"}, "key 'a' is str, not 32 bytes"),
        ({"": ONE}, "a key id is not"),
        ({"a\n": ONE}, "a key id is not"),
        ({"ñ": ONE}, "a key id is not"),
        ({"a" * 41: ONE}, "a key id is not"),
        ({"a": ONE, "b": ONE}, "keys 'a' and 'b' are the same"),
    ],
)
def test_keys_that_cannot_be_used_together(keys: dict[str, bytes], message: str) -> None:
    with pytest.raises(KeyMaterialError, match=message):
        LocalKeys(keys)
    with pytest.raises(KeyMaterialError, match=message):
        environment_value(keys)


def test_keys_do_not_show(caplog: pytest.LogCaptureFixture) -> None:
    keys = EnvironmentKeys(environ={"PGLAB_KEYS": VARIABLE})
    logging.getLogger("test").warning("%s %r %s", keys, keys, vars(keys))
    assert "2026-11" in caplog.text
    assert not shows(caplog.text + f"{keys}{keys!r}{vars(keys)}{keys.__dict__}")
    assert shows(VARIABLE), "the search would find a key"


def test_keys_are_neither_pickled_nor_copied() -> None:
    keys = LocalKeys({"a": ONE})
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(keys, protocol)
    assert copy.copy(keys) is copy.deepcopy([keys])[0] is keys
    with pytest.raises(TypeError):
        json.dumps(keys)


def test_no_error_shows_a_key() -> None:
    keys = LocalKeys({"a": ONE, "b": TWO})
    blob = encrypt(b"x", keys=keys, context=PLACE)
    for attempt in (
        lambda: decrypt(blob, keys=LocalKeys({"a": TWO}), context=PLACE),
        lambda: decrypt(blob, keys=LocalKeys({"b": ONE}), context=PLACE),
        lambda: decrypt(blob[:-1], keys=keys, context=PLACE),
        lambda: keys.wrap("c", ONE, b""),
        # Given in the place of an id, by mistake.
        lambda: LocalKeys({"a": ONE, TWO.hex(): TWO}),
        lambda: LocalKeys({"a": ONE}, current=ONE.hex()),
        lambda: LocalKeys({"a": ONE}, current=base64.b64encode(ONE).decode()),
    ):
        with pytest.raises(EncryptionError) as caught:
            attempt()
        assert not shows("".join(traceback.format_exception(caught.value)))


def test_importing_pglab_imports_no_cryptography() -> None:
    code = "import sys, pglab; print([m for m in sys.modules if m.startswith('cryptography')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
