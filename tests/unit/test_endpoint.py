"""Endpoints: URLs that libpq and redis-py read back as meant, and passwords that stay hidden."""

from __future__ import annotations

import string
import traceback
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from redis.connection import parse_url

from pglab.config import Secret
from pglab.errors import ConfigError
from pglab.servers import external
from pglab.servers.endpoint import PostgresEndpoint, RedisEndpoint, mask_url

# What libpq can be given: neither NUL nor a lone surrogate exists in a C string of UTF-8.
words = st.text(
    st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1, max_size=30
)
passwords = words.filter(lambda word: len(word) >= 3)


def endpoint(**changes):
    given = {"source": "embedded", "user": "ana", "password": Secret("pw"), "port": 5432}
    return PostgresEndpoint(**{**given, "host": "127.0.0.1", **changes})


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "postgresql://ana:pw@127.0.0.1:5432/postgres"),
        ({"password": Secret("")}, "postgresql://ana@127.0.0.1:5432/postgres"),
        ({"host": "::1"}, "postgresql://ana:pw@[::1]:5432/postgres"),
        (
            {"password": Secret("p@s:/?#")},
            "postgresql://ana:p%40s%3A%2F%3F%23@127.0.0.1:5432/postgres",
        ),
        ({"user": "a@b/c"}, "postgresql://a%40b%2Fc:pw@127.0.0.1:5432/postgres"),
        (
            {"host": None, "socket_directory": "/tmp/a b"},
            "postgresql://ana:pw@%2Ftmp%2Fa%20b:5432/postgres",
        ),
        ({"maintenance_database": "año/1"}, "postgresql://ana:pw@127.0.0.1:5432/a%C3%B1o%2F1"),
        (
            {"options": {"sslmode": "require", "options": "-c a=b&c"}},
            "postgresql://ana:pw@127.0.0.1:5432/postgres?sslmode=require&options=-c%20a%3Db%26c",
        ),
    ],
)
def test_urls_are_escaped(changes, url):
    there = endpoint(**changes)
    assert there.url(reveal=True) == url
    assert conninfo_to_dict(url) == there.parameters()


@given(user=words, password=passwords, database=words)
def test_libpq_reads_back_what_was_meant(user, password, database):
    there = endpoint(user=user, password=Secret(password))
    assert conninfo_to_dict(there.url(database, reveal=True)) == there.parameters(database)


def test_the_socket_comes_before_tcp_unless_told():
    there = endpoint(socket_directory="/run/pg")
    assert there.parameters()["host"] == "/run/pg"
    assert there.parameters(tcp=True)["host"] == "127.0.0.1"
    assert "127.0.0.1" in there.url()


def test_a_password_is_in_no_repr_and_no_url_that_was_not_asked_to_reveal():
    there = endpoint(password=Secret("hunter2"), options={"sslpassword": "hunter3", "sslmode": "a"})
    for shown in (repr(there), str(there), there.url(), there.url("app")):
        assert "hunter" not in shown
    assert "sslpassword=***" in there.url()
    assert "sslmode=a" in there.url()
    cache = RedisEndpoint(
        source="embedded", host="127.0.0.1", port=6379, password=Secret("hunter2")
    )
    assert "hunter2" not in repr(cache) + cache.url()
    assert cache.url(3, reveal=True) == "redis://:hunter2@127.0.0.1:6379/3"
    theirs = RedisEndpoint(source="url", external_url=Secret("redis://u:hunter2@h:1/0?x=hunter2"))
    assert theirs.url() == "redis://u:***@h:1/0?***"
    assert "hunter2" not in repr(theirs)


@given(password=passwords)
def test_redis_reads_back_what_was_meant(password):
    there = RedisEndpoint(source="embedded", host="127.0.0.1", port=1, password=Secret(password))
    assert parse_url(there.url(2, reveal=True)) == {
        "host": "127.0.0.1", "port": 1, "password": password, "db": 2
    }  # fmt: skip


# Masking: whatever the password, encoded or not.


@given(password=passwords, encoded=st.booleans())
@example(password="pa/ss", encoded=False)
@example(password="p@ss", encoded=False)
@example(password="a?b#c:d@e/f", encoded=False)
def test_masking_shows_no_piece_of_a_password(password, encoded):
    written = quote(password, safe="") if encoded else password
    masked = mask_url(f"postgresql://ana:{written}@db.example.org:5432/app")
    # Always the same words, so that no piece of any password is among them.
    if "?" in written:
        assert masked == "postgresql://***"
    else:
        assert masked == "postgresql://ana:***@db.example.org:5432/app"


@pytest.mark.parametrize(
    ("place", "masked"),
    [
        ("redis://h:1/0?password={}", "redis://h:1/0?***"),
        ("postgresql://h/d?user=a&password={}&sslmode=a", "postgresql://h/d?***"),
        ("postgresql://a:x{}x/d", "postgresql://a:***/d"),  # the host was forgotten
    ],
)
@given(password=st.text(string.ascii_letters + string.digits + "!$%_-", min_size=3, max_size=30))
@example(password="hunter2")
def test_masking_shows_no_piece_of_a_password_that_stands_elsewhere(place, masked, password):
    assert mask_url(place.format(password)) == masked


def test_masking_shows_nothing_of_a_url_that_could_be_read_in_two_ways():
    assert mask_url("postgresql://h/d?password=hunter2@x") == "postgresql://***"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db.example.org/app",
        "postgresql://db.example.org:5432/app",
        "postgresql://ana@[::1]:5432/app",
        "postgresql://[::1]/app",
        "redis://127.0.0.1:6379/0",
        "unix:///run/redis.sock",
    ],
)
def test_masking_leaves_a_url_without_secrets_as_it_is(url):
    assert mask_url(url) == url


# The learner's own URL.


def test_a_url_of_the_learners_becomes_an_endpoint():
    url = "postgresql://ana:p%40s%2Fs@db.example.org:6543/app?options=-c%20a%3D1&sslmode=require"
    there = external.postgres(Secret(url))
    assert not there.managed
    assert there.parameters("x") == {
        "host": "db.example.org",
        "port": "6543",
        "user": "ana",
        "password": "p@s/s",
        "dbname": "x",
        "sslmode": "require",
        "options": "-c a=1",
    }
    assert there.url() == (
        "postgresql://ana:***@db.example.org:6543/app?options=-c%20a%3D1&sslmode=require"
    )


@pytest.mark.parametrize(
    "url",
    ["postgresql://ana@%2Frun%2Fpg:6543/app", "postgresql://ana@/app?host=/run/pg&port=6543"],
)
def test_a_socket_directory_may_be_named(url):
    there = external.postgres(Secret(url))
    assert (there.host, there.socket_directory, there.port) == (None, "/run/pg", 6543)
    assert conninfo_to_dict(there.url(reveal=True)) == there.parameters()


def test_what_a_url_leaves_out_has_defaults():
    there = external.postgres(Secret("postgresql://"))
    assert (there.host, there.port, there.maintenance_database) == ("localhost", 5432, "postgres")


@pytest.mark.parametrize(
    ("url", "fact"),
    [
        ("postgresql://ana:hunter2@one:5432,two:5433/app", "several servers (one,two)"),
        ("postgresql://ana:hunter2@one,two/app", "several servers (one,two)"),
        ("postgresql://ana:hunter2/app", "where a port"),
        ("postgresql://ana:hunter2@h:99999/app", "where a port"),
        ("postgresql://ana:hunter2%zz@h/app", "cannot be read"),
        ("postgresql://ana:hunter2@h/app?password", "cannot be read"),
        ("postgresql://ana@h/app?hunter2=1", "cannot be read"),
        ("postgresql://ana:hunter2@[h/app", "cannot be read"),
        ("postgresql://ana:hunter2%00@h/app", "cannot be read"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url, fact):
    with pytest.raises(ConfigError) as caught:
        external.postgres(Secret(url))
    assert fact in str(caught.value)
    assert "DATABASE_URL" in str(caught.value)
    assert "unset" in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url", ["redis://ana:hunter2", "redis://h:1/0?socket_timeout=hunter2", "redis://:hunter2@[h"]
)
def test_a_redis_url_that_cannot_be_read_is_refused_without_its_password(url):
    with pytest.raises(ConfigError) as caught:
        external.redis(Secret(url))
    assert "REDIS_URL" in str(caught.value)
    assert "unset" in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
