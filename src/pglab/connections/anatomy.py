"""A connection URL taken apart by libpq's own parser, and what it does not say filled in.

A URL is short because libpq knows the rest: defaults, variables of the environment, a service
file, a password file. Most surprises with ``DATABASE_URL`` are one of these, or a sign in the
password that should have been percent-encoded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pglab.errors import ConfigError
from pglab.servers.external import reason

__all__ = ["Part", "anatomy", "parse"]

Origin = Literal["URL", "environment", "default"]

_SHOWN: Final = ("host", "port", "dbname", "user", "password", "sslmode", "connect_timeout")

_MEANINGS: Final = {
    "host": "a name, an address, or the folder of a unix socket",
    "port": "5432 unless told",
    "dbname": "the user's name unless told",
    "user": "the system's user unless told",
    "password": "else from PGPASSWORD or a password file",
    "sslmode": "only verify-full proves whom we talk to",
    "connect_timeout": "seconds for each address; unset: as long as the system tries",
    "application_name": "what pg_stat_activity shows",
    "options": "settings of the session, as after postgres -c",
    "target_session_attrs": "which of several servers will do",
    "sslrootcert": "the certificate authority that the server must have",
    "channel_binding": "require: SCRAM proves that nobody stands between",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One parameter of a connection.

    Attributes:
        name: as libpq calls it.
        value: what holds; ``***`` for what is secret, and empty where nothing is set.
        origin: where it comes from: the URL, the environment, or libpq's default.
        meaning: a few words.
    """

    name: str
    value: str
    origin: Origin
    meaning: str


def parse(url: str) -> dict[str, str]:
    """Return what a URL or a keyword string says, as libpq reads it.

    Args:
        url: such as ``postgresql://user@host/database?sslmode=require``.

    Returns:
        Keyword to value, only of what is given; the password in the clear.

    Raises:
        ConfigError: libpq cannot read it. The message does not quote it: it may hold a password.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        raise ConfigError(
            f"libpq cannot read this URL: {reason(error)}; write postgresql://user:password@host:port/"
            "database, with special signs of the password percent-encoded, as in p%40ss for p@ss"
        ) from None
    return {name: str(value) for name, value in given.items() if value is not None}


def anatomy(url: str, environ: Mapping[str, str] | None = None) -> list[Part]:
    """Return the parts of a connection, those that the URL leaves out included.

    Args:
        url: as for :func:`parse`.
        environ: variables that libpq would read; those of this process when omitted.

    Returns:
        The usual parameters in a fixed order, then whatever else the URL sets.

    Raises:
        ConfigError: libpq cannot read the URL.
    """
    given = parse(url)
    environ = os.environ if environ is None else environ
    secret, variables, defaults = _libpq_knows()
    user = given.get("user") or environ.get("PGUSER", "")
    parts = []
    for name in (*_SHOWN, *(each for each in given if each not in _SHOWN)):
        origin: Origin
        if name in given:
            value, origin = given[name], "URL"
        elif variables.get(name, "") in environ:
            value, origin = environ[variables[name]], "environment"
        else:
            value, origin = _default(name, user, defaults), "default"
        shown = "***" if value and name in secret else value
        parts.append(Part(name, shown, origin, _MEANINGS.get(name, "")))
    return parts


def _default(name: str, user: str, defaults: Mapping[str, str]) -> str:
    if name == "user":
        return "the system's user"
    if name == "dbname":  # libpq fills this in while it connects, after its parser
        return user or "the user's name"
    if name == "host":
        return "a unix socket here"
    return defaults.get(name, "")


def _libpq_knows() -> tuple[frozenset[str], dict[str, str], dict[str, str]]:
    """Return the secret keywords, the variable of each keyword, and its compiled-in default."""
    from psycopg.pq import Conninfo

    options = list(Conninfo.get_defaults())
    secret = frozenset(
        _text(each.keyword) for each in options if each.dispchar == b"*" or b"scram" in each.keyword
    )
    variables = {_text(each.keyword): _text(each.envvar) for each in options if each.envvar}
    defaults = {_text(each.keyword): _text(each.compiled) for each in options if each.compiled}
    return secret, variables, defaults


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode()
