"""Every error that pglab raises on purpose, as one tree.

    PglabError
    ├── ConfigError (ValueError)                      a setting cannot be used
    ├── ServerError (RuntimeError)                    PostgreSQL or Redis
    │   ├── NoServerError                             no source on this machine can provide one
    │   ├── ServerStartError                          a chosen source's server did not start
    │   ├── ServerUnreachableError (ConnectionError)  what should answer does not
    │   └── PermissionMissingError (PermissionError)  the role may not do what is needed
    ├── LabError (RuntimeError)                       a lesson's database or cache
    │   └── LabClosedError                            used after close()
    ├── LoadError (RuntimeError)                      rows could not be stored
    │   └── DiskFullError (OSError)                   … because the disk is full
    ├── BenchError (RuntimeError)                     a benchmark cannot be run or read
    │   ├── PlanMismatchError                         the server chose another plan than claimed
    │   ├── BenchStoppedError                         it ended early; finished rounds are kept
    │   └── ResultError (ValueError)                  a file of results cannot be used
    ├── IngestError (ValueError)                      an event is malformed; nothing was stored
    └── WorkspaceError (OSError)                      the learner's copies of the notebooks

What a notebook shows without a traceback continues the tree in ``pglab.notebook.failures``.
Each class also derives from what a caller would catch without knowing pglab. A message is a fact,
the value, and the remedy, in that order.
"""

__all__ = [
    "BenchError",
    "BenchStoppedError",
    "ConfigError",
    "DiskFullError",
    "IngestError",
    "LabClosedError",
    "LabError",
    "LoadError",
    "NoServerError",
    "PermissionMissingError",
    "PglabError",
    "PlanMismatchError",
    "ResultError",
    "ServerError",
    "ServerStartError",
    "ServerUnreachableError",
    "WorkspaceError",
]


class PglabError(Exception):
    """The root: catching it catches everything that pglab raises on purpose."""

    exit_code = 1


class ConfigError(PglabError, ValueError):
    """A setting from the environment (or a flag) is missing, malformed or contradicts another."""

    exit_code = 2


class ServerError(PglabError, RuntimeError):
    """Something about PostgreSQL or Redis."""


class NoServerError(ServerError):
    """No source on this machine can provide the server; the message lists what was tried."""


class ServerStartError(ServerError):
    """A server was launched and did not become ready; the message carries its last log lines."""


class ServerUnreachableError(ServerError, ConnectionError):
    """A server that should answer does not."""


class PermissionMissingError(ServerError, PermissionError):
    """The role lacks a permission; the message names it and the statement that grants it."""


class LabError(PglabError, RuntimeError):
    """A lesson's database or cache cannot be opened, reset or closed."""


class LabClosedError(LabError):
    """The lab was closed; open it again."""


class LoadError(PglabError, RuntimeError):
    """Rows could not be generated or stored; what was there before is unchanged."""


class DiskFullError(LoadError, OSError):
    """The disk is full; nothing of the load was kept."""


class BenchError(PglabError, RuntimeError):
    """A benchmark cannot be run, or its results cannot be read or compared.

    Attributes:
        result: what was finished until then (a ``pglab.bench.Result``); None if nothing was.
    """

    result: object = None


class PlanMismatchError(BenchError):
    """The server chose another plan than the one that the variant claims; both are shown."""


class BenchStoppedError(BenchError):
    """A run ended before its time, for a reason that the message names."""

    def __init__(self, message: str, *, result: object = None) -> None:
        super().__init__(message)
        self.result = result


class ResultError(BenchError, ValueError):
    """A file of results is cut short, of another version, or unlike the one to compare with."""


class IngestError(PglabError, ValueError):
    """An event is malformed; nothing of its batch was stored.

    Attributes:
        field: path of the offending field, such as ``events[3].data.key.id``.
    """

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(message)
        self.field = field


class WorkspaceError(PglabError, OSError):
    """The learner's copies of the notebooks cannot be made or restored."""
