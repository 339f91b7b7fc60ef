"""The options of the magic line."""

from __future__ import annotations

import argparse
import keyword
import re
from dataclasses import dataclass
from typing import NoReturn

from pglab.notebook.explain_error import known_condition
from pglab.notebook.failures import SqlUsageError
from pglab.notebook.session import MAIN
from pglab.notebook.values import WIDTH

__all__ = ["KEPT_ROWS", "Options", "help_text", "parse"]

KEPT_ROWS = 200_000
"""Rows that ``--to`` keeps at most, unless ``--max`` says otherwise."""
_MOST_SHOWN = 1_000


@dataclass(frozen=True)
class Options:
    """What the magic line asked for; ``sql`` is what followed the options."""

    rows: int
    width: int
    to: str | None
    most: int
    session: str
    expect: tuple[str, ...]
    help: bool
    sql: str


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SqlUsageError(f"%%sql: {message}. %sql --help lists the options")


_EXAMPLES = """\
  %%sql                            run the statements below, in order
  %%sql people <<                  … and keep the result as the DataFrame people
  %%sql --as alice                 … in a second session, with its own transaction
  %%sql --expect unique_violation  … which must fail, and the cell succeeds
  %sql SELECT 1                    one line

Nothing in the statements is interpreted: no :name, no {name}, no %. Each statement is a
transaction of its own unless you write BEGIN; the first error stops the cell."""


def _identifier(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name that a Python variable can have")
    return text


def _count(highest: int) -> type[int]:
    def convert(text: str) -> int:
        try:
            value = int(text.replace("_", "").replace(",", ""))
        except ValueError:
            value = 0
        if not 1 <= value <= highest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {highest:,}")
        return value

    return convert  # type: ignore[return-value]  # argparse takes any callable


def _conditions(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in names:
        if not known_condition(name):
            raise argparse.ArgumentTypeError(
                f"{name!r} is neither an SQLSTATE such as 23505 nor a condition name such as "
                "unique_violation"
            )
    return names


def _parser() -> _Parser:
    parser = _Parser(
        prog="%%sql",
        description="Run SQL on the lesson's database and show the results.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--rows", type=_count(_MOST_SHOWN), default=10, metavar="N", help="rows shown (10)")
    add(
        "--width",
        type=_count(100_000),
        default=WIDTH,
        metavar="N",
        help=f"characters of a value shown ({WIDTH})",
    )
    add(
        "--to",
        type=_identifier,
        metavar="NAME",
        help="keep the last result as a pandas DataFrame; NAME << is the same",
    )
    add(
        "--max",
        type=_count(10_000_000),
        default=KEPT_ROWS,
        metavar="N",
        help=f"rows that --to may keep ({KEPT_ROWS:,})",
    )
    add(
        "--as",
        dest="session",
        type=_identifier,
        default=MAIN,
        metavar="NAME",
        help="run in the session NAME, which has its own connection",
    )
    add(
        "--expect",
        type=_conditions,
        default=(),
        metavar="ERROR",
        help="succeed only if this error occurs (23505 or unique_violation; a,b for either)",
    )
    add("-h", "--help", action="store_true", help="show this")
    return parser


_OPTION = re.compile(r"(?:(--?[a-z]+)(?:=(\S*))?(?=\s|\Z))|(\S+)\s*<<(?=\s|\Z)")
_FLAGS = {"--help", "-h"}


def parse(line: str) -> Options:
    """Read the leading options of a magic line; the rest is SQL, which stays as it is.

    Raises:
        SqlUsageError: an option is unknown, or its value cannot be used.
    """
    arguments: list[str] = []
    position = len(line) - len(line.lstrip())
    while match := _OPTION.match(line, position):
        position = match.end()
        if match[3]:
            arguments.append(f"--to={match[3]}")
        elif match[2] is not None or match[1] in _FLAGS:
            arguments.append(match[0])
        else:
            value = re.compile(r"\s*(\S*)").match(line, position)
            assert value is not None  # noqa: S101 (it matches an empty text)
            position = value.end()
            arguments += [f"{match[1]}={value[1]}"] if value[1] else [match[1]]
        position += len(line[position:]) - len(line[position:].lstrip())
    given = _parser().parse_args(arguments)
    return Options(
        given.rows,
        given.width,
        given.to,
        given.max,
        given.session,
        given.expect,
        given.help,
        line[position:].rstrip(),
    )


def help_text() -> str:
    """Return what ``--help`` shows."""
    return _parser().format_help()
