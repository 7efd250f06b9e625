"""Faults 94 to 96: behind a real gateway Triton is slow, hangs, answers what cannot be right, or has a full queue."""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import pytest

from tests.support.backends import QUEUE
from tests.support.fault_rig import (
    DEADLINE_S,
    GOOD,
    LABELS,
    Rig,
    classify,
    everywhere,
    expect_everywhere,
    expect_recovery,
    moderate,
    no_verdict,
    under_way,
)
from tests.support.fault_table import FaultLog
from tests.support.misbehaving_models import BAD_WORD, HELD, NAN, RAISES, SHORT, slow, solid
from tests.support.waiting import until

pytest_plugins = ["tests.support.fault_rig_fixtures"]

pytestmark = pytest.mark.heavy


def test_94_one_slow_inference_among_others(ready: Rig, faults: FaultLog) -> None:
    with ThreadPoolExecutor(1) as pool:
        late = under_way(ready, pool, moderate, ready.client, solid(slow(35)))
        answers = []
        while not late.done():
            answers.append(classify(ready.client).status_code)
            time.sleep(0.05)
    faults.expect(
        94, "an inference takes 3.5 s, the deadline is 3 s, others go on", late.result(), "504 deadline_exceeded"
    )
    assert no_verdict(late.result())
    assert set(answers) == {200}
    until(ready.triton.idle)  # the instance sleeps on


@pytest.mark.timeout(240)
def test_94_triton_hangs(ready: Rig, faults: FaultLog) -> None:
    with ready.triton.frozen():
        for name, answer in everywhere(ready).items():
            faults.expect(94, f"Triton is frozen: {name}", answer, "504 deadline_exceeded")
            assert no_verdict(answer)
        ready.gateway.wait(503)
        start = time.monotonic()
        for _ in range(5):
            expect_everywhere(faults, 94, "Triton has been frozen for a while", ready, "503 model_unavailable")
        assert time.monotonic() - start < DEADLINE_S, "twenty requests together cost less than one deadline"
    expect_recovery(faults, 94, "Triton frozen and awake again", ready)


def test_95_outputs_that_cannot_be_right(ready: Rig, faults: FaultLog) -> None:
    for colour, what in ((NAN, "NaN"), (SHORT, "one dimension too few"), (RAISES, "an exception")):
        expect_everywhere(faults, 95, f"the image model gives {what}", ready, "502 model_invalid_output", solid(colour))
    words = classify(ready.client, labels=["a red circle", BAD_WORD])
    faults.expect(95, "the text model gives NaN: classify", words, "502 model_invalid_output")
    text = ready.client.post("/v1/embeddings", json={"input": [f"a {BAD_WORD}"]})
    faults.expect(95, "the text model gives NaN: embeddings", text, "502 model_invalid_output")
    entry = {"label": BAD_WORD, "prompts": [f"a {BAD_WORD}"]}
    saved = ready.client.put("/v1/classifiers/broken", json={"labels": [entry, {"label": "a circle"}]})
    faults.expect(95, "the text model gives NaN: a classifier is saved", saved, "502 model_invalid_output")
    assert ready.client.get("/v1/classifiers/broken").status_code == 404
    both = ready.client.post(
        "/v1/classify", files=[("file", solid(NAN)), ("file", GOOD)], data={"labels": LABELS, "views": "full"}
    ).json()
    assert [result["scores"] is None for result in both["results"]] == [True, False]
    assert both["results"][0]["error"]["code"] == "model_invalid_output"
    ready.gateway.wait(200)  # a look of the gateway's own may have shared a batch with the one that was too short
    assert classify(ready.client).status_code == 200


def test_96_the_queue_of_a_model_is_full(ready: Rig, faults: FaultLog) -> None:
    count = 6 * QUEUE
    with ThreadPoolExecutor(count) as pool:
        with ready.triton.held():  # until somebody has found the queue full
            asked = [pool.submit(classify, ready.client, solid(HELD)) for _ in range(count)]
            wait(asked, return_when=FIRST_COMPLETED)
        answers = [one.result() for one in asked]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused
    assert len(refused) < count
    for answer in answers:
        faults.expect(96, f"{count} requests at once, the model takes {QUEUE}", answer, "200", "503 overloaded")
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert ready.gateway.status() == 200
    assert classify(ready.client).status_code == 200


@pytest.mark.timeout(240)
@pytest.mark.heavy
def test_95_a_model_of_another_type(ready: Rig, faults: FaultLog) -> None:
    with ready.triton.doubled():
        ready.gateway.wait(503)
        faults.expect(95, "every vector is float64: readyz", ready.gateway.get("/readyz"), "503")
        expect_everywhere(faults, 95, "every vector is float64", ready, "502 model_invalid_output")
    expect_recovery(faults, 95, "the image model is the right one again", ready)
