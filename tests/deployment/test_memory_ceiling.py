"""The memory formula holds in Compose, in the chart and in the documentation, for every number of replicas."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from structlog.testing import capture_logs

from gateway import memory_ceiling
from gateway.memory_ceiling import ceiling_mib, limit_mib, warn_of_limit
from gateway.settings import MIB, Settings
from tests.conftest import ROOT
from tests.deployment.test_compose import services

REPLICAS = range(1, 65)
CHART = ROOT / "deploy" / "helm" / "clip-moderation" / "values.yaml"
UNITS = {"g": 1024, "Gi": 1024, "m": 1, "Mi": 1}


def mib(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]+)", text).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def ceilings(replicas: int) -> tuple[float, ...]:
    """With two workers, as containers have them, without and with stills for review."""
    return tuple(
        ceiling_mib(Settings(decode_workers=2, gateway_replicas=replicas, review_images=kind))
        for kind in ("none", "folder")
    )


@pytest.mark.parametrize("deployment", ["compose", "chart"])
def test_the_limit_of_a_container_is_above_the_ceiling_of_any_number_of_replicas(deployment: str) -> None:
    if deployment == "compose":
        gateway = services()["gateway"]
        limit = mib(gateway["deploy"]["resources"]["limits"]["memory"])
        assert str(gateway["environment"]["DECODE_WORKERS"]) == "2"
    elif CHART.exists():
        limit = mib(yaml.safe_load(CHART.read_text(encoding="utf-8"))["gateway"]["resources"]["limits"]["memory"])
    else:
        pytest.skip("there is no chart here")
    assert {n: found for n in REPLICAS if (found := max(ceilings(n))) > limit} == {}


def test_what_does_not_divide_stays_with_each_replica() -> None:
    settings = Settings(decode_workers=2, max_image_pixels=1_000_000, max_body_bytes=MIB)
    alone = ceiling_mib(settings)
    for n in REPLICAS:
        each = ceiling_mib(settings.model_copy(update={"gateway_replicas": n}))
        stays = 448 + settings.text_cache_mib + settings.max_connections * 68 / 1024
        assert stays < each <= alone
        assert n * each >= alone


def test_an_image_larger_than_a_replicas_part_counts_whole() -> None:
    """It is let in alone: 50 megapixels take 1,526 MiB, be a replica's part of DECODE_MEMORY_MIB what it may."""
    few = Settings(decode_workers=2, gateway_replicas=64)
    assert ceiling_mib(few) - ceiling_mib(few.model_copy(update={"max_image_pixels": 1024})) > 1500


def test_the_documentation_sums_the_ceiling_up() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    plain, with_stills = ceilings(1)
    assert f"which is {plain:,.0f} MiB with the defaults and two workers" in page
    assert f"{with_stills:,.0f} MiB with `REVIEW_IMAGES`" in page
    for n in (1, 2, 4, 8):
        assert f"| {n} | {ceilings(n)[0]:,.0f} | {n * ceilings(n)[0]:,.0f} |" in page


def test_the_limit_is_the_lowest_of_the_control_groups_around(tmp_path: Path) -> None:
    inner = tmp_path / "pod" / "gateway"
    inner.mkdir(parents=True)
    (tmp_path / "own").write_text("0::/pod/gateway\n")
    (inner / "memory.max").write_text("max\n")
    assert limit_mib(tmp_path, tmp_path / "own") is None
    (inner.parent / "memory.max").write_text(f"{700 * MIB}\n")
    assert limit_mib(tmp_path, tmp_path / "own") == 700
    (inner / "memory.max").write_text(f"{800 * MIB}\n")
    assert limit_mib(tmp_path, tmp_path / "own") == 700


def test_the_limit_of_version_1_and_of_a_group_seen_as_the_root(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(f"{600 * MIB}\n")
    (tmp_path / "own").write_text("4:memory:/docker/0123\n1:cpu:/\n")
    assert limit_mib(tmp_path, tmp_path / "own") == 600
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert limit_mib(tmp_path, tmp_path / "own") is None
    assert limit_mib(tmp_path, tmp_path / "nothing") is None


def test_a_limit_under_the_ceiling_is_told_with_both_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(decode_workers=2)
    ceiling = ceiling_mib(settings)
    with capture_logs() as logs:
        for limit in (None, ceiling + 1, 1024.0):
            monkeypatch.setattr(memory_ceiling, "limit_mib", lambda limit=limit: limit)
            warn_of_limit(settings, replicas=1)
    (line,) = logs
    assert (line["log_level"], line["limit_mib"], line["ceiling_mib"]) == ("warning", 1024, round(ceiling))
