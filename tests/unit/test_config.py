"""Settings from the environment: what is accepted, what a refusal says, and what it hides."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import traceback
from pathlib import Path

import pytest

from pglab.config import POSTGRES_IMAGE, REDIS_IMAGE, VARIABLES, Secret, Settings
from pglab.errors import ConfigError

PASSWORD = "hunter2-correct-horse"


def read(**environment):
    return Settings.from_environment(environment)


def refusal(**environment):
    """Return what the learner reads: the message, and with it the printed exception chain."""
    with pytest.raises(ConfigError) as caught:
        read(**environment)
    return str(caught.value), "".join(traceback.format_exception(caught.value))


def test_nothing_set_means_every_default():
    assert read() == Settings(
        backend=None,
        database_url=None,
        redis_url=None,
        home=None,
        postgres_port=None,
        redis_port=None,
        idle_minutes=60.0,
        scope=None,
        postgres_image=POSTGRES_IMAGE,
        redis_image=REDIS_IMAGE,
    )


def test_an_empty_variable_is_an_unset_one():
    assert read(**dict.fromkeys(VARIABLES, "")) == read()


@pytest.mark.parametrize(
    ("name", "value", "attribute", "expected"),
    [
        ("PGLAB_BACKEND", "embedded", "backend", "embedded"),
        ("PGLAB_BACKEND", " Local ", "backend", "local"),
        ("PGLAB_BACKEND", "containers", "backend", "containers"),
        ("PGLAB_HOME", "/srv/lab", "home", Path("/srv/lab")),
        ("PGLAB_HOME", "~/lab", "home", Path("~/lab").expanduser()),
        ("PGLAB_HOME", "lab", "home", Path.cwd() / "lab"),
        ("PGLAB_POSTGRES_PORT", "1", "postgres_port", 1),
        ("PGLAB_REDIS_PORT", "65535", "redis_port", 65535),
        ("PGLAB_IDLE_MINUTES", "0", "idle_minutes", 0.0),
        ("PGLAB_IDLE_MINUTES", "0.5", "idle_minutes", 0.5),
        ("PGLAB_SCOPE", "ana2", "scope", "ana2"),
        ("PGLAB_POSTGRES_IMAGE", "postgres:16", "postgres_image", "postgres:16"),
        ("PGLAB_REDIS_IMAGE", "redis:8", "redis_image", "redis:8"),
    ],
)
def test_each_variable_is_read(name, value, attribute, expected):
    assert getattr(read(**{name: value}), attribute) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DATABASE_URL", "postgresql://h/d", "postgresql://h/d"),
        ("DATABASE_URL", "postgres://h/d", "postgres://h/d"),
        ("DATABASE_URL", " postgresql+psycopg://u:p@h/d\n", "postgresql://u:p@h/d"),
        ("DATABASE_URL", "postgresql://u:p%40ss@[::1]:5/d", "postgresql://u:p%40ss@[::1]:5/d"),
        ("DATABASE_URL", "postgresql:///d?host=/run/p@g", "postgresql:///d?host=/run/p@g"),
        ("REDIS_URL", "redis://:p@h:1/0", "redis://:p@h:1/0"),
        ("REDIS_URL", "rediss://h", "rediss://h"),
        ("REDIS_URL", "unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
    ],
)
def test_urls_are_read_as_secrets(name, value, expected):
    url = getattr(read(**{name: value}), name.lower())
    assert isinstance(url, Secret)
    assert url.reveal() == expected


def test_every_variable_of_the_table_is_tried_here():
    tried = {
        mark.args[1][n][0]
        for test in (test_each_variable_is_read, test_urls_are_read_as_secrets)
        for mark in test.pytestmark
        for n in range(len(mark.args[1]))
    }
    assert tried == set(VARIABLES)


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("PGLAB_BACKEND", "docker", "embedded, local, containers, url"),
        ("PGLAB_HOME", "~no-such-user-here/lab", "set it to an absolute path"),
        ("PGLAB_POSTGRES_PORT", "0", "1 to 65535"),
        ("PGLAB_POSTGRES_PORT", "65536", "1 to 65535"),
        ("PGLAB_POSTGRES_PORT", "-1", "1 to 65535"),
        ("PGLAB_POSTGRES_PORT", "٥٤٣٢", "1 to 65535"),
        ("PGLAB_POSTGRES_PORT", "9" * 5000, "1 to 65535"),
        ("PGLAB_REDIS_PORT", "redis", "1 to 65535"),
        ("PGLAB_IDLE_MINUTES", "soon", "a number of minutes"),
        ("PGLAB_IDLE_MINUTES", "-5", "a number of minutes"),
        ("PGLAB_IDLE_MINUTES", "nan", "a number of minutes"),
        ("PGLAB_IDLE_MINUTES", "inf", "a number of minutes"),
        ("PGLAB_SCOPE", "Ana", "1 to 12 lower-case"),
        ("PGLAB_SCOPE", "a_b", "1 to 12 lower-case"),
        ("PGLAB_SCOPE", "a" * 13, "1 to 12 lower-case"),
        ("PGLAB_SCOPE", "ana\n", "1 to 12 lower-case"),
    ],
)
def test_a_refusal_names_the_variable_its_value_and_the_remedy(name, value, remedy):
    message, _ = refusal(**{name: value})
    assert message.startswith(name)
    assert repr(value) in message
    assert remedy in message


@pytest.mark.parametrize(
    "url",
    [
        f"ana:{PASSWORD}@db.example.org/app",  # no scheme
        f"mysql://ana:{PASSWORD}@db.example.org/app",
        f"ana:{PASSWORD}://db.example.org/app",
        f"postgresql:/ana:{PASSWORD}@db.example.org/app",
        f"host=db.example.org password={PASSWORD}",
        f"postgresql://ana:12/{PASSWORD}@db.example.org/app",  # a bare slash …
        f"postgresql://ana:1@{PASSWORD}@db.example.org/app",  # … and a bare @ in the password
    ],
)
@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
def test_a_malformed_url_is_refused_without_its_password(name, url):
    if name == "REDIS_URL":
        url = url.replace("postgresql:", "redis:")
    message, chain = refusal(**{name: url})
    assert message.startswith(name)
    assert f"unset {name}" in message
    for piece in (PASSWORD, "hunter2", "correct-horse"):
        assert piece not in chain


def test_another_source_leaves_a_url_meant_for_others_unread():
    settings = read(PGLAB_BACKEND="embedded", DATABASE_URL="mysql://x", REDIS_URL="nonsense")
    assert settings.database_url is None
    assert settings.redis_url is None


def test_the_source_url_needs_a_url():
    message, _ = refusal(PGLAB_BACKEND="url")
    assert "DATABASE_URL, which is not set" in message
    assert read(PGLAB_BACKEND="url", DATABASE_URL="postgresql://h/d").backend == "url"


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        read().scope = "ana"


# A secret shows itself nowhere.


def raise_with(secret):
    raise RuntimeError(f"with {secret!r}")


def logged(secret):
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "%s %r", (secret, secret), None)
    return logging.Formatter().format(record)


def traced(secret):
    try:
        raise_with(secret)
    except RuntimeError as error:
        shown = traceback.TracebackException.from_exception(error, capture_locals=True)
        return "".join(shown.format())


SETTINGS = Settings(database_url=Secret(PASSWORD), redis_url=Secret(PASSWORD))


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        format,
        lambda secret: f"{secret} {secret!r} {secret!s} {secret!a}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - it is what is tried
        lambda secret: f"{[secret]} { ({'k': secret}) } {(secret,)}",
        lambda secret: json.dumps(secret, default=str),
        lambda secret: repr(dataclasses.replace(SETTINGS, database_url=secret)),
        lambda secret: str(dataclasses.asdict(SETTINGS)),
        lambda secret: repr(copy.deepcopy(secret)) + repr(copy.copy(secret)),
        logged,
        traced,
    ],
)
def test_a_secret_shows_itself_nowhere(show):
    shown = show(Secret(PASSWORD))
    assert "***" in shown
    assert PASSWORD not in shown


@pytest.mark.parametrize("write", [json.dumps, pickle.dumps])
def test_a_secret_is_not_written_out(write):
    with pytest.raises(TypeError) as caught:
        write(Secret(PASSWORD))
    assert PASSWORD not in str(caught.value)


def test_a_secret_has_no_dictionary_to_look_into():
    with pytest.raises(TypeError):
        vars(Secret(PASSWORD))


def test_a_secret_compares_and_knows_whether_it_is_empty():
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
    assert not Secret("")
    assert Secret("a").reveal() == "a"
