"""What a connection URL says, by libpq's own parser, and what fills its gaps."""

from __future__ import annotations

import pytest

from pglab.connections.anatomy import anatomy, parse
from pglab.errors import ConfigError

URL = "postgresql://ana:p%40ss%2F@db.example.org:6543/evolution?sslmode=require&application_name=x"


def parts(url, **environ):
    return {part.name: part for part in anatomy(url, environ)}


def test_each_part_and_its_origin():
    found = parts(URL, PGCONNECT_TIMEOUT="3", PGPORT="1")
    assert {name: (part.value, part.origin) for name, part in found.items()} == {
        "host": ("db.example.org", "URL"),
        "port": ("6543", "URL"),
        "dbname": ("evolution", "URL"),
        "user": ("ana", "URL"),
        "password": ("***", "URL"),
        "sslmode": ("require", "URL"),
        "connect_timeout": ("3", "environment"),
        "application_name": ("x", "URL"),
    }


def test_what_is_not_said_is_filled_in():
    found = parts("postgresql://")
    assert (found["port"].value, found["sslmode"].value) == ("5432", "prefer")
    assert (found["password"].value, found["password"].origin) == ("", "default")
    assert parts("postgresql://ana@h")["dbname"].value == "ana"
    assert parts("postgresql://h", PGUSER="eva")["dbname"].value == "eva"
    assert parts("postgresql://h", PGUSER="eva")["user"].origin == "environment"


def test_secrets_are_masked_wherever_they_come_from():
    assert parts("postgresql://h", PGPASSWORD="s3cret")["password"].value == "***"
    assert parts("postgresql://h/?sslpassword=s3cret")["sslpassword"].value == "***"
    assert parts("host=h password=s3cret")["password"].value == "***"
    assert "s3cret" not in repr(anatomy("host=h password=s3cret", {"PGPASSWORD": "s3cret"}))


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("postgresql://u:p%40ss%2F@h/d", {"password": "p@ss/", "host": "h"}),
        ("postgresql://[::1]:5433/d", {"host": "::1", "port": "5433"}),
        ("postgresql://%2Fvar%2Frun/d", {"host": "/var/run"}),
        ("postgresql://a:1,b:2/d", {"host": "a,b", "port": "1,2"}),
        ("postgresql:///d?host=/tmp", {"host": "/tmp", "dbname": "d"}),
        # The unencoded @ ends the password, and the rest becomes a part of the host.
        ("postgresql://u:p@ss@h/d", {"password": "p", "host": "ss@h"}),
        ("host=h dbname='a b'", {"host": "h", "dbname": "a b"}),
    ],
)
def test_libpqs_own_reading(url, wanted):
    found = parse(url)
    assert {name: found[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cr%zzet@h/d",
        "s3cret",
        's3c"ret',
        "password=my s3cret=x",
        "postgresql://u:s3cret@[h",
        "postgresql://h/?s3cret",
    ],
)
def test_what_cannot_be_read_is_not_quoted(url):
    with pytest.raises(ConfigError, match="percent-encoded") as caught:
        anatomy(url)
    assert "s3c" not in str(caught.value)
