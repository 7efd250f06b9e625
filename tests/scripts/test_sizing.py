"""Sizing: the simulation against closed forms and what was measured, and plans that follow from both."""

from __future__ import annotations

import re
import statistics

import pytest

from scripts.sizing.__main__ import check, costs_of, hosts_for, machine_of, measured, plan, summary
from scripts.sizing.model import FULL, erlang_c, mean_wait_s, parts_of
from scripts.sizing.simulation import Machine, closed, poisson
from tests.conftest import ROOT

pytestmark = pytest.mark.heavy

WITHIN = 0.2


def one_server(service_s: float = 0.1) -> Machine:
    """A machine whose pictures need nothing but the encoder, one by one."""
    return Machine(1, 0.0, 0.0, {1: service_s}, service_s, 1, 1, 0.0)


def test_one_server_waits_as_pollaczek_and_khinchine_say() -> None:
    for rate in (3.0, 6.0, 8.0):
        curve = poisson(one_server(), rate, seconds=6_000)
        wait_s = statistics.mean(curve.latencies_s) - 0.1
        assert wait_s == pytest.approx(mean_wait_s(1, rate, 0.1), rel=0.1)
        assert curve.busy == pytest.approx(rate * 0.1, rel=0.05)


def test_the_closed_forms_agree_where_they_are_exact() -> None:
    assert erlang_c(1, 0.6) == pytest.approx(0.6)
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert mean_wait_s(1, 6.0, 0.1, variation=1.0) == pytest.approx(0.6 / (10 - 6))  # M/M/1
    assert mean_wait_s(1, 6.0, 0.1) == pytest.approx(0.3 / (10 - 6))  # M/D/1
    assert 0 < erlang_c(2_000, 1_900.0) < 1
    with pytest.raises(ValueError, match="needed"):
        mean_wait_s(2, 30.0, 0.1)


def test_a_full_server_does_what_it_can() -> None:
    curve = closed(one_server(), 5)
    assert curve.rate == pytest.approx(10, rel=0.01)
    assert curve.percentile_s(0.5) == pytest.approx(0.5, rel=0.01)


def test_cores_are_shared_by_weight_and_the_batcher_fills_batches() -> None:
    shared = Machine(2, 0.0, 0.0, {1: 0.1, 4: 0.4}, 0.1, 4, 1, 0.0)
    assert closed(shared, 4).rate == pytest.approx(20, rel=0.02)  # four instances of one thread on two cores
    batched = Machine(2, 0.0, 0.0, {1: 0.1, 4: 0.2}, 0.1, 1, 4, 0.001)
    assert closed(batched, 8).batch == pytest.approx(4, rel=0.1)
    assert closed(batched, 8).rate == pytest.approx(20, rel=0.05)
    assert closed(batched, 1).batch == 1


def test_the_measured_curve_is_reproduced_but_for_its_tail(capsys: pytest.CaptureFixture[str]) -> None:
    """Throughput and median; the simulation's services all take the same time, so its tail is shorter."""
    for level, rate, p50, p95 in check():
        assert abs(rate - 1) < WITHIN, level
        assert abs(p50 - 1) < WITHIN, level
        assert 0.6 < p95 <= 1.05, level
    shown = capsys.readouterr().out.strip()
    assert shown in (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8")


def test_plans_grow_with_the_load_and_hold_it() -> None:
    hosts = [hosts_for(parts_of(rate, costs_of("fp32")), 16) for rate in (1, 100, 1_000, 10_000)]
    assert hosts == sorted(hosts)
    for part in parts_of(10_000, costs_of("int8", views=4)):
        assert part.needed / part.units <= FULL + 1e-9
    tiles, whole = (parts_of(100, costs_of("fp32", views))[0].needed for views in (4, 1))
    assert tiles == pytest.approx(4 * whole)
    machine = machine_of(measured())
    assert costs_of("fp32").encode_s == pytest.approx(machine.batch_s(4) / 4, rel=0.01)
    gpu = parts_of(1_000, costs_of("fp32", gpu_rate=500))[0]
    assert (gpu.unit, gpu.units) == ("GPU", 3)


def test_a_plan_says_what_it_costs() -> None:
    line = plan(100, costs_of("int8"), 16, 0.5)[-1]
    found = re.search(r"cores: (\d+); .*; ([\d.]+) an hour, ([\d.]+) for 1,000", line)
    assert found is not None
    assert float(found[2]) == int(found[1]) * 0.5
    assert float(found[3]) == pytest.approx(float(found[2]) / 360, abs=1e-4)


def test_the_page_has_the_table() -> None:
    assert "\n".join(summary()) in (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8")
