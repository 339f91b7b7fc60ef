"""One JSON file a run: written whole or not at all, and refused with a reason.

``pglab.bench.records`` has the format.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pglab.bench.records import FORMAT, SCHEMA, from_json, to_json
from pglab.bench.results import Result
from pglab.errors import ResultError
from pglab.whole_file import write_whole

__all__ = ["FORMAT", "SCHEMA", "from_json", "load", "save", "to_json"]

_WIDTH: Final = 100  # characters of a line; what fits, and each round, stays on one


def save(result: Result, path: str | Path) -> Path:
    """Write a run to a JSON file; directories are made.

    The file is complete or not there: it is written beside its place and then renamed, so that
    neither Ctrl-C nor a full disk leaves half of one, nor harms an older one of this name.

    Returns:
        The path.

    Raises:
        ResultError: the result holds NaN or what else a reader would refuse, or the file cannot
            be written.
    """
    path = Path(path)
    try:
        document = to_json(result)
        from_json(document)
        data = (_laid_out(document) + "\n").encode()
    except ValueError as error:
        raise ResultError(f"this result cannot be saved: {error}") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise ResultError(
            f"{path} cannot be written ({error.strerror or error}); choose another path"
        ) from error
    return path


def load(path: str | Path) -> Result:
    """Read a run from its file.

    Raises:
        ResultError: the file is not there, cut short, no result of ours, of a newer version, or
            a field is missing, mistyped or impossible; the message names the field.
    """
    path = Path(path)
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ResultError(
            f"{path} cannot be read ({error.strerror or error}); "
            "pglab bench run … --json FILE makes a file of results"
        ) from error
    document = _parsed(text, path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ResultError(
            f"{path} is JSON, but no result of pglab bench; name a file that it has written"
        )
    version = document.get("schema")
    if isinstance(version, int) and version > SCHEMA:
        raise ResultError(
            f"{path} was written by a newer pglab (schema {version}; this one reads {SCHEMA}): "
            "upgrade pglab"
        )
    try:
        return from_json(document)
    except ResultError as error:
        raise ResultError(f"{path} is damaged: {error}; run the benchmark again") from error


def _parsed(data: bytes, path: Path) -> Any:
    def refuse(word: str) -> None:
        raise ResultError(
            f"{path} holds {word}, which is no number; run the benchmark again, or mend the file"
        )

    try:
        text = data.decode()
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("{") and (
            error.pos >= len(text.rstrip()) or not text.rstrip().endswith("}")
        ):
            raise _cut(path) from error
        if not text.strip():
            raise ResultError(f"{path} is empty; run the benchmark again") from error
        raise ResultError(
            f"{path} is not JSON (line {error.lineno}: {error.msg}); name a file of results"
        ) from error
    except UnicodeDecodeError as error:
        if data.lstrip().startswith(b"{") and error.end >= len(data):
            raise _cut(path) from error
        raise ResultError(f"{path} is not JSON; name a file of results") from error
    except ResultError:
        raise
    except (RecursionError, ValueError) as error:
        raise ResultError(f"{path} is not JSON ({error}); name a file of results") from error


def _cut(path: Path) -> ResultError:
    return ResultError(
        f"{path} is cut short: its JSON ends in the middle; copy it again, or run it again"
    )


def _laid_out(value: Any, indent: str = "") -> str:
    line = json.dumps(value, allow_nan=False, ensure_ascii=False)
    is_round = isinstance(value, dict) and "latencies" in value
    if len(indent) + len(line) <= _WIDTH or is_round or not isinstance(value, dict | list):
        return line
    deeper = f"{indent} "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {_laid_out(each, deeper)}" for key, each in value.items()]
        return "{\n" + ",\n".join(deeper + part for part in parts) + f"\n{indent}}}"
    parts = [_laid_out(each, deeper) for each in value]
    return "[\n" + ",\n".join(deeper + part for part in parts) + f"\n{indent}]"
