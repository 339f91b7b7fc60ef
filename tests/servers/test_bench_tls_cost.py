"""The cost of TLS is measured over ways that are what their names say."""

from __future__ import annotations

import pytest

from pglab.bench import tls_cost as module
from pglab.bench.tls_cost import BASELINE, WAYS, tls_cost
from pglab.errors import BenchError
from pglab.servers.scratch import scratch_postgres

pytestmark = pytest.mark.server


def test_every_operation_is_measured_by_every_way():
    found = tls_cost(rounds=2)
    assert list(found.medians_us) == ["connection", "1 row", "10 kB", "1 MB"]
    for ways in found.medians_us.values():
        assert tuple(ways) == WAYS
        assert all(len(each) == 2 and min(each) > 0 for each in ways.values())
    assert found.tls.startswith("TLSv1.3, ")
    ratio = found.times_slower("connection", "TLS")
    assert ratio.low <= ratio.value <= ratio.high
    lines = str(found).splitlines()
    assert len(lines) == 1 + 4 * len(WAYS)
    assert sum(f"times {BASELINE}" in line for line in lines) == 4 * (len(WAYS) - 1)


def test_one_round_is_too_few():
    with pytest.raises(BenchError, match="rounds=1; an interval needs 2"):
        tls_cost(rounds=1)


def test_a_way_that_is_another_one_is_refused():
    with (
        scratch_postgres(tcp=True) as server,
        server.connect() as socket,
        server.connect(host="127.0.0.1") as plain,
    ):
        for way, connection in {"TCP": socket, "TLS": plain, "unix socket": plain}.items():
            with pytest.raises(BenchError, match=f"the way '{way}' is"):
                module._check({way: connection})
