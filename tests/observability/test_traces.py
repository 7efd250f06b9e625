"""Traces of requests, as a collector gets them from the real stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest

from gateway.inference.triton import TritonEncoder
from gateway.limits.deadline import Deadline
from gateway.observability.trace_export import PARENT_BASED, Collector, sampler_of, trace_provider
from gateway.observability.tracing import Tracing
from tests.conftest import ROOT, Stack, free_ports
from tests.support.drawings import LABELS, encoded, shape
from tests.support.fake_encoder import write_bundle
from tests.support.fake_triton import FakeTriton, listening
from tests.support.gateway_processes import more_gateways
from tests.support.trace_collector import Collector as Collected
from tests.support.trace_collector import Seen, collecting
from tests.support.waiting import until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
SECRET = "Zwiebelkuchen"


@pytest.fixture(scope="module")
def traced(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collected, str, Path]]:
    """A gateway that sends traces, what they are sent to, and the gateway's log."""
    folder = tmp_path_factory.mktemp("traced")
    settings = {"OTEL_EXPORTER_OTLP_HEADERS": "x-key=of%20ours", "LOG_FORMAT": "json", "ALLOWED_HOSTS": "127.0.0.1"}
    with (
        collecting() as collector,
        more_gateways(stack, 1, folder, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint, **QUICK, **settings) as (url,),
    ):
        yield collector, url, folder / "gateway-0.log"


def children(collector: Collected, parent: Seen) -> list[Seen]:
    return [span for span in collector.spans if span.parent == parent.own]


@pytest.mark.heavy
def test_a_request_its_images_stages_and_inferences_continue_the_clients_trace(
    traced: tuple[Collected, str, Path],
) -> None:
    collector, url, log = traced
    files = [("file", (f"{SECRET}.png", encoded(shape(label)), "image/png")) for label in LABELS[:2]]
    fields = {"labels": [f"a {SECRET}", "a square"]}
    sent = httpx2.post(f"{url}/v1/classify?x={SECRET}", files=files, data=fields, headers=SAMPLED, timeout=30)
    assert sent.status_code == 200, sent.text
    name = "POST /v1/classify"
    until(lambda: any(span.trace == TRACE for span in collector.named(name)))
    (request,) = (span for span in collector.named(name) if span.trace == TRACE)
    assert request.parent == PARENT
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["http.route"] == "/v1/classify"
    assert request.attributes["clip.request_id"] == sent.headers["x-request-id"]
    assert not request.failed
    mine = [span for span in collector.spans if span.trace == TRACE]
    images = [span for span in mine if span.name == "image"]
    assert sorted(span.attributes["clip.image"] for span in images) == [0, 1]
    for image in images:
        stages = children(collector, image)
        assert {"intake", "decode", "encode"} <= {span.name for span in stages}
        (encode,) = (span for span in stages if span.name == "encode")
        (infer,) = children(collector, encode)
        assert (infer.name, infer.attributes["clip.model"]) == ("infer clip_image", "clip_image")
        assert infer.attributes["clip.batch_size"] >= 1
        assert infer.attributes["server.address"] == "127.0.0.1"
        assert infer.seconds <= encode.seconds + 0.01
    assert {span.attributes["clip.model"] for span in mine if span.name.startswith("infer")} == {
        "clip_image",
        "clip_text",
    }
    assert collector.headers["x-key"] == "of ours"
    assert collector.resource["service.name"] == "clip-gateway"
    assert SECRET not in repr(mine), "what a client wrote is in a span"
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    (line,) = (one for one in lines if one.get("request_id") == sent.headers["x-request-id"])
    assert line["trace_id"] == TRACE


@pytest.mark.heavy
def test_errors_have_our_codes_and_probes_no_trace(traced: tuple[Collected, str, Path]) -> None:
    collector, url, _ = traced
    assert httpx2.get(f"{url}/readyz").status_code == 200
    wrong = httpx2.post(f"{url}/v1/moderate", json={"images": [{"base64": "AAAA"}], "policy": "absent"}, timeout=30)
    until(lambda: bool(collector.named("POST /v1/moderate")))
    span = collector.named("POST /v1/moderate")[-1]
    assert span.attributes["error.type"] == wrong.json()["code"]
    assert span.parent == ""
    assert not any("readyz" in one.name for one in collector.spans)


@pytest.mark.heavy
def test_what_a_client_does_not_sample_is_not_traced(traced: tuple[Collected, str, Path]) -> None:
    collector, url, _ = traced
    other = "1" * 32
    httpx2.get(f"{url}/v1/models", headers={"traceparent": f"00-{other}-{PARENT}-00"})
    httpx2.get(f"{url}/v1/models", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    until(lambda: any(span.trace == TRACE for span in collector.named("GET /v1/models")))
    assert not any(span.trace == other for span in collector.spans)


@pytest.mark.heavy
def test_a_collector_that_is_away_costs_one_line_and_no_request(stack: Stack, tmp_path: Path) -> None:
    (nobody,) = free_ports(1)
    away = f"http://127.0.0.1:{nobody}"
    quick = {**QUICK, "OTEL_EXPORTER_OTLP_TIMEOUT": "1", "LOG_FORMAT": "json"}
    with more_gateways(stack, 1, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=away, **quick) as (url,):
        log = tmp_path / "gateway-0.log"

        def told() -> bool:
            assert httpx2.get(f"{url}/v1/models").status_code == 200
            return "traces cannot be sent" in log.read_text()

        until(told)
        for _ in range(20):
            assert httpx2.get(f"{url}/v1/models").status_code == 200
        assert log.read_text().count("traces cannot be sent") == 1
        assert "Traceback" not in log.read_text()


async def test_triton_continues_a_trace_that_is_sampled_and_no_other(tmp_path: Path) -> None:
    triton = FakeTriton()
    row = np.zeros((1, 8), np.int64)
    async with listening(triton):
        encoder = TritonEncoder(triton.address, write_bundle(tmp_path), lambda *_: None)
        await encoder.served_parameters(Deadline.after(5))
        with collecting() as collector:
            for sampler, share in (("always_off", 0.0), ("always_on", 1.0)):
                provider = trace_provider(Collector(collector.endpoint, "", sampler, share, "clip-gateway", "0"))
                tracing = Tracing(provider)
                with tracing.request(SAMPLED["traceparent"], "", "id"):
                    await encoder.encode_texts(row, Deadline.after(5))
                assert ("traceparent" in triton.headers) == (sampler == "always_on")
                await tracing.close()
        await encoder.encode_texts(row, Deadline.after(5))
        assert "traceparent" not in triton.headers
        await encoder.close()
    (infer,) = collector.named("infer clip_text")
    assert infer.trace == TRACE


def test_samplers_are_those_that_the_names_say() -> None:
    assert "TraceIdRatioBased{0.25}" in sampler_of("traceidratio", 0.25).get_description()
    assert "ParentBased" in sampler_of(f"{PARENT_BASED}always_on", 1.0).get_description()
    assert sampler_of("always_off", 1.0).get_description() == "AlwaysOffSampler"


def test_without_the_extra_the_start_ends_with_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text('import sys\nsys.modules["opentelemetry.sdk.resources"] = None\n')
    environment = {"PYTHONPATH": str(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "--check"],
        cwd=ROOT,
        env={**os.environ, **environment, "DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "the extra traces is not installed" in done.stderr + done.stdout
