"""When messages are sent: a school year with its admission peaks, its weeks and its nights.

Everything is a table of integers and its running sum; looking a position up in the running sum
gives moments as dense as the table says (inverse transform sampling, without a logarithm).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np

from pglab.dataset.streams import I64, Stream

# Fixed, and never "now": the same seed must give the same rows next year.
START = datetime(2025, 3, 1, tzinfo=UTC)
END = datetime(2026, 3, 1, tzinfo=UTC)
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
START_US = int(START.timestamp()) * SECOND
END_US = int(END.timestamp()) * SECOND

# Lima is five hours behind UTC all year; lessons on time zones need the two to differ.
LOCAL_OFFSET_HOURS = -5
# People write in the lunch break and after school, hardly at night. A gateway idles half the day:
# monitoring lessons need the trough, and BRIN ranges of unequal width.
_BY_HOUR = (4, 2, 1, 1, 1, 2, 6, 14, 30, 44, 52, 54, 60, 56, 48, 50, 52, 54, 58, 64, 66, 54, 30, 12)
_BY_WEEKDAY = (11, 10, 10, 9, 9, 5, 3)  # Monday first; the office is closed at the weekend.
# Percent of a plain month, January first: the summer holidays are quiet (in Peru: January), the
# semesters begin in March and August.
_BY_MONTH = (68, 92, 116, 104, 94, 86, 104, 118, 98, 92, 96, 82)
# No two days are alike: a strike, a fair, a rainy day. Percent, at random; a monitoring lesson that
# compares "today" with "yesterday" needs a difference that means nothing.
_DAY_AT_LEAST, _DAY_SPAN = 72, 57
# Applications close on these days; the fortnight before carries up to four times the traffic,
# so that a query for "last week" may touch far more rows than the yearly mean suggests.
_DEADLINES = (date(2025, 7, 18), date(2025, 12, 12), date(2026, 2, 20))
_RUSH_DAYS = 14
_RUSH_FACTOR = 4
# A conversation's window never drags on over a quiet night: people answer or go to sleep.
LONGEST_WINDOW_US = 40 * MINUTE


def _hourly_weights() -> I64:
    hours = (END - START) // timedelta(hours=1)
    weights = np.empty(hours, dtype=np.int64)
    days = np.arange(hours // 24 + 2)
    swings = _DAY_AT_LEAST + Stream(0, "days").below(days, _DAY_SPAN)
    for hour in range(hours):
        local = START + timedelta(hours=hour + LOCAL_OFFSET_HOURS)
        days_left = [(deadline - local.date()).days for deadline in _DEADLINES]
        rush = max((_RUSH_DAYS - left for left in days_left if 0 <= left < _RUSH_DAYS), default=0)
        season = (_RUSH_DAYS + (_RUSH_FACTOR - 1) * rush) * _BY_MONTH[local.month - 1]
        swing = int(swings[(local - START).days + 1])  # the first local day began before START
        weights[hour] = _BY_HOUR[local.hour] * _BY_WEEKDAY[local.weekday()] * season * swing // 100
    return weights


class Rhythm:
    """Turn positions in the year's traffic into moments."""

    def __init__(self) -> None:
        self._weights = _hourly_weights()
        self._before = np.concatenate(([0], np.cumsum(self._weights)))
        self.total = int(self._before[-1])

    def moment(self, position: I64) -> I64:
        """Return µs since 1970 for positions in [0, total]: equal steps are equal traffic."""
        hour = np.searchsorted(self._before, position, side="right") - 1
        hour = np.minimum(hour, len(self._weights) - 1)
        within = (position - self._before[hour]) * HOUR // self._weights[hour]
        return np.asarray(START_US + hour * HOUR + within, dtype=np.int64)


def local_hour(moment: I64) -> I64:
    """Return the hour of the day in Lima, 0 to 23."""
    return (moment // HOUR + LOCAL_OFFSET_HOURS) % 24
