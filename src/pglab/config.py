"""Settings from the environment: read once, checked, frozen.

Every variable is optional. The table below is what ``pglab doctor --settings`` prints.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NoReturn, get_args

from pglab.errors import ConfigError

__all__ = ["VARIABLES", "Backend", "Secret", "Settings"]

Backend = Literal["embedded", "local", "containers", "url"]

POSTGRES_IMAGE: Final = "postgres:17.10-bookworm"
REDIS_IMAGE: Final = "valkey/valkey:8.1-bookworm"

VARIABLES: Final[Mapping[str, str]] = {
    "DATABASE_URL": "a PostgreSQL server of your own; pglab makes only databases named pglab_…",
    "REDIS_URL": "a Redis server of your own; pglab writes only keys that begin with pglab:",
    "PGLAB_BACKEND": "embedded | local | containers | url: insist on one source for both servers",
    "PGLAB_HOME": "where the servers' state lies (default: a folder for this virtual environment)",
    "PGLAB_POSTGRES_PORT": "insist on this port for PostgreSQL (default: any free one, kept)",
    "PGLAB_REDIS_PORT": "insist on this port for Redis (default: any free one, kept)",
    "PGLAB_IDLE_MINUTES": "stop servers that nobody has used for so long (default 60; 0: never)",
    "PGLAB_SCOPE": "a word in the names of this learner's databases, to share one server",
    "PGLAB_POSTGRES_IMAGE": f"container image (default {POSTGRES_IMAGE})",
    "PGLAB_REDIS_IMAGE": f"container image (default {REDIS_IMAGE})",
}


class Secret:
    """A string that shows itself only through ``reveal()``: not in repr, str, format or JSON."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not pickled, for that would write it out; pass reveal()")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the environment asks for.

    Attributes:
        idle_minutes: minutes without any use after which a server stops; 0 means never.
        scope: a word in the names of databases, or None for the default of the source.
    """

    backend: Backend | None = None
    database_url: Secret | None = None
    redis_url: Secret | None = None
    home: Path | None = None
    postgres_port: int | None = None
    redis_port: int | None = None
    idle_minutes: float = 60.0
    scope: str | None = None
    postgres_image: str = POSTGRES_IMAGE
    redis_image: str = REDIS_IMAGE

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the settings.

        Args:
            environment: variables to read; ``os.environ`` when omitted.

        Raises:
            ConfigError: a variable holds something that cannot be used.
        """
        env = os.environ if environment is None else environment
        backend = _backend(env.get("PGLAB_BACKEND"))
        # Who insists on another source keeps a DATABASE_URL that is meant for another program.
        urls = env if backend in (None, "url") else {}
        settings = cls(
            backend=backend,
            database_url=_url(urls, "DATABASE_URL", ("postgresql", "postgres")),
            redis_url=_url(urls, "REDIS_URL", ("redis", "rediss", "unix")),
            home=_home(env.get("PGLAB_HOME")),
            postgres_port=_port(env, "PGLAB_POSTGRES_PORT"),
            redis_port=_port(env, "PGLAB_REDIS_PORT"),
            idle_minutes=_minutes(env, "PGLAB_IDLE_MINUTES", 60.0),
            scope=_scope(env.get("PGLAB_SCOPE")),
            postgres_image=env.get("PGLAB_POSTGRES_IMAGE") or POSTGRES_IMAGE,
            redis_image=env.get("PGLAB_REDIS_IMAGE") or REDIS_IMAGE,
        )
        if settings.backend == "url" and settings.database_url is None:
            raise ConfigError(
                "PGLAB_BACKEND=url needs DATABASE_URL, which is not set; "
                "set it to postgresql://user:password@host:port/database"
            )
        return settings


def _backend(value: str | None) -> Backend | None:
    if not value:
        return None
    for backend in get_args(Backend):
        if value.strip().lower() == backend:
            return backend  # type: ignore[no-any-return]
    raise ConfigError(
        f"PGLAB_BACKEND is {value!r}; set it to one of {', '.join(get_args(Backend))}, or unset it"
    )


def _home(value: str | None) -> Path | None:
    if not value:
        return None
    try:
        return Path(value).expanduser().absolute()
    except (RuntimeError, OSError) as error:  # ~nobody-we-know, or a working directory that is gone
        raise ConfigError(
            f"PGLAB_HOME is {value!r}, which leads nowhere ({error}); set it to an absolute path"
        ) from None


def _url(env: Mapping[str, str], name: str, schemes: tuple[str, ...]) -> Secret | None:
    value = (env.get(name) or "").strip()
    if not value:
        return None
    # A slip may have put the password anywhere in it, so that no message shows more than a scheme.
    scheme, mark, rest = value.partition("://")
    # SQLAlchemy's spelling is common in .env files: postgresql+psycopg://…
    plain = scheme.partition("+")[0]
    remedy = f"correct it, or unset {name} to use pglab's own server"
    if not mark or plain not in schemes:
        known = mark and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]{0,19}", scheme)
        raise ConfigError(
            f"{name} {f'begins with {scheme}://' if known else 'is not a URL'}, "
            f"and {schemes[0]}://user:password@host:port/… is expected; {remedy}"
        )
    authority, _, path = rest.partition("?")[0].partition("/")
    if authority.count("@") > 1 or "@" in path:
        raise ConfigError(
            f"{name} holds an @ or a / that does not separate anything; percent-encode special "
            f"characters of the password, as in p%40ss for p@ss; {remedy}"
        )
    return Secret(f"{plain}://{rest}")


def _port(env: Mapping[str, str], name: str) -> int | None:
    value = env.get(name)
    if not value:
        return None
    if re.fullmatch(r"[0-9]{1,5}", value) and 1 <= int(value) <= 65535:
        return int(value)
    raise ConfigError(f"{name} is {value!r}; set it to a port from 1 to 65535, or unset it")


def _minutes(env: Mapping[str, str], name: str, default: float) -> float:
    value = env.get(name)
    if not value:
        return default
    if re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", value.strip()):
        return float(value)
    raise ConfigError(f"{name} is {value!r}; set it to a number of minutes, such as 60, or 0")


def _scope(value: str | None) -> str | None:
    if not value:
        return None
    if re.fullmatch(r"[a-z0-9]{1,12}", value):
        return value
    raise ConfigError(
        f"PGLAB_SCOPE is {value!r}; set it to 1 to 12 lower-case letters and digits, such as ana"
    )
