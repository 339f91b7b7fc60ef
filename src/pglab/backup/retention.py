"""Which backups to keep: pure rules over times, and what deletes the others.

Two rules: the seed document's (all of the last 7 days), and grandfather, father, son (the newest of
each of so many days, weeks and months that have one). Whatever a rule says, three kinds stay: the
newest good backup, all that are newer than it, and those from the future, where a clock is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Protocol

from pglab.backup.errors import DamagedBackupError
from pglab.backup.folder import Backup
from pglab.errors import ConfigError

__all__ = ["GrandfatherFatherSon", "KeepFor", "Pruned", "Rule", "decide", "prune"]


class Rule(Protocol):
    """Says which of some backups stay."""

    def reasons(self, times: Sequence[datetime], now: datetime) -> Mapping[datetime, str]:
        """Return why each backup stays; one that does not is missing.

        Args:
            times: of the backups, the newest first, all aware, without twins.
            now: the time that it is.
        """
        ...


@dataclass(frozen=True, slots=True)
class KeepFor:
    """Keep every backup that is not older than so many days: the seed's rule, with 7.

    Attributes:
        days: at least 1.
    """

    days: int = 7

    def __post_init__(self) -> None:
        if self.days < 1:
            raise ConfigError(f"keeping backups for {self.days} days keeps none; give 1 or more")

    def reasons(self, times: Sequence[datetime], now: datetime) -> Mapping[datetime, str]:
        """Return why each backup stays."""
        age = timedelta(days=self.days)
        return {time: f"not older than {self.days} days" for time in times if now - time <= age}


@dataclass(frozen=True, slots=True)
class GrandfatherFatherSon:
    """Keep the newest backup of each of the last days, weeks and months that have one.

    Periods without a backup do not count: after a holiday without backups the old ones are still
    there. Days, ISO weeks and months are those of UTC.

    Attributes:
        daily: sons.
        weekly: fathers.
        monthly: grandfathers.
    """

    daily: int = 7
    weekly: int = 4
    monthly: int = 12

    def __post_init__(self) -> None:
        counts = (self.daily, self.weekly, self.monthly)
        if min(counts) < 0 or max(counts) < 1:
            raise ConfigError(f"keeping {counts} daily, weekly and monthly backups keeps none")

    def reasons(self, times: Sequence[datetime], now: datetime) -> Mapping[datetime, str]:  # noqa: ARG002
        """Return why each backup stays."""
        found: dict[datetime, str] = {}
        for count, word, period in (
            (self.daily, "daily", _day),
            (self.weekly, "weekly", _week),
            (self.monthly, "monthly", _month),
        ):
            newest: dict[tuple[int, int], datetime] = {}
            for time in times:
                newest.setdefault(period(time.astimezone(UTC)), time)
            for time in list(newest.values())[:count]:
                found[time] = f"{found[time]}, {word}" if time in found else word
        return found


def _day(at: datetime) -> tuple[int, int]:
    return at.year, at.timetuple().tm_yday


def _week(at: datetime) -> tuple[int, int]:
    return at.isocalendar()[:2]  # the ISO year: the last days of December may be in week 1


def _month(at: datetime) -> tuple[int, int]:
    return at.year, at.month


def decide(
    times: Iterable[datetime],
    rule: Rule,
    *,
    now: datetime,
    is_good: Callable[[datetime], bool] = lambda _: True,
) -> dict[datetime, str | None]:
    """Return for every backup why it stays, or None if it goes; the newest first.

    Args:
        times: of the backups, aware.
        rule: which to keep.
        now: the time that it is, aware.
        is_good: whether a backup could be restored; asked from the newest back, until one is.

    Raises:
        ConfigError: a time has no zone.
    """
    newest_first = sorted(set(times), reverse=True)
    if any(time.tzinfo is None for time in (*newest_first, now)):
        raise ConfigError("a time without a zone may be another by hours; use aware datetimes")
    past = [time for time in newest_first if time <= now]
    reasons = {
        **dict.fromkeys([time for time in newest_first if time > now], "from the future"),
        **rule.reasons(past, now),
    }
    for time in newest_first:
        if is_good(time):
            reasons.setdefault(time, "the newest good one")
            break
        # Why is it not good? Until somebody has looked, it stays.
        reasons.setdefault(time, "newer than the newest good one")
    return {time: reasons.get(time) for time in newest_first}


@dataclass(frozen=True, slots=True)
class Pruned:
    """What becomes of one backup.

    Attributes:
        backup: which.
        reason: why it stays; None if it goes.
        problem: what is wrong with it, if anything was found.
    """

    backup: Backup
    reason: str | None
    problem: str | None = None


SEED_RULE: Final = KeepFor(7)


def prune(
    backups: Iterable[Backup],
    rule: Rule = SEED_RULE,
    *,
    now: datetime | None = None,
    dry_run: bool = False,
) -> list[Pruned]:
    """Delete what the rule does not keep; never the newest backup that is whole.

    Each database is judged by itself. A backup whose files have other sizes than noted protects
    nobody; of those whose sizes are right, the newest are read and their checksums compared, until
    one is found whole.

    Args:
        backups: of one folder or several.
        rule: which to keep.
        now: the time that it is; the clock's when omitted.
        dry_run: delete nothing.

    Returns:
        One entry a backup, the newest first.

    Raises:
        OSError: one cannot be deleted.
    """
    at = now or datetime.now(UTC)
    by_database: dict[str, dict[datetime, list[Backup]]] = {}
    for backup in backups:
        times = by_database.setdefault(backup.manifest.database, {})
        times.setdefault(backup.manifest.snapshot_at, []).append(backup)
    outcome = []
    for times in by_database.values():
        problems: dict[str, str] = {}
        whole = partial(_any_whole, times, problems)
        verdict = decide(times, rule, now=at, is_good=whole)
        outcome += [
            Pruned(backup, reason, problems.get(backup.name))
            for time, reason in verdict.items()
            for backup in times[time]
        ]
    if not dry_run:
        for each in outcome:
            if each.reason is None:
                each.backup.remove()
    return sorted(outcome, key=lambda each: each.backup.manifest.snapshot_at, reverse=True)


def _any_whole(
    times: Mapping[datetime, list[Backup]], problems: dict[str, str], time: datetime
) -> bool:
    found = [_is_whole(backup, problems) for backup in times[time]]  # all: each has its problem
    return any(found)


def _is_whole(backup: Backup, problems: dict[str, str]) -> bool:
    try:
        backup.check_files()
    except (DamagedBackupError, OSError) as error:
        problems[backup.name] = str(error)
        return False
    return True
