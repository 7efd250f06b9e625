"""The text side: how soon many new labels are ready, and what many known labels cost a request."""

from __future__ import annotations

import asyncio
import base64
import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import httpx2
import numpy as np
import tritonclient.grpc.aio as triton

from gateway.inference.bundle import TEXT_MODEL, Manifest, read_manifest
from gateway.inference.tokenizer import Tokenizer
from scripts.bench.alternate import alternate, medians, ratio
from scripts.bench.client import Load, closed_loop, posted, upload
from scripts.bench.pictures import photographs
from scripts.bench.plan import Plan
from scripts.bench.report import Section, Table, Target
from scripts.bench.stack import Stack, is_ready, stack
from scripts.export.words import labels

# The seven of its eighty templates that OpenAI found to matter most, from the notebook beside CLIP's code.
TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
MANY, FEW = 1000, 2
SAMPLED = 10
"""Of the inferences that are padded further than the gateway's, every tenth is made, and the time multiplied."""
IN_FLIGHT = 4
ALONE_FOR, TOGETHER_FOR, PARTS = 4, 3, 2
"""Times the plan's: a twentieth is to be told from nothing, and a machine's speed changes by more within seconds. So
the turns are shorter, and more."""
TIMES_FASTER_AT_LEAST, MORE_AT_MOST = 8.0, 0.05
SAVE_TIMEOUT_S = 900
PUT, SAME = "saved over REST", "the same inferences alone"
PADDED, BUCKETED = "padded to the context length, alone", "padded to its bucket, alone"
FIELDS = "form, a field a label"
FORMS = ("JSON", "form with options", "saved classifier", FIELDS)


def measure(plan: Plan) -> Section:
    """Measure both on one stack."""
    settings = {"SAVE_TIMEOUT_S": str(SAVE_TIMEOUT_S), "MAX_SAVED_PROMPTS": str(MANY * len(TEMPLATES))}
    with stack(plan.model, plan.precision, plan.device, settings) as running:
        manifest = read_manifest(running.repository)
        ready, prompts = new_labels(running, manifest, plan)
        target_known, known = known_labels(running, plan)
    seconds = medians(ready)
    times = ratio(ready, PADDED, PUT)
    rows = tuple(
        (side, f"{seconds[side]:.1f}", f"{prompts / seconds[side]:.0f}") for side in (PUT, SAME, BUCKETED, PADDED)
    )
    target = Target(
        f"{MANY} new labels, {len(TEMPLATES)} templates, of padded to {manifest.text.context_length}",
        f"at least {TIMES_FASTER_AT_LEAST:g} times faster",
        f"{times:.1f}",
        times >= TIMES_FASTER_AT_LEAST,
    )
    notes = (
        f"""New labels: two words each, such as “{labels(1)[0]}”, in CLIP's {len(TEMPLATES)} best templates; a word has
as many tokens as with CLIP's own vocabulary. “{PUT}” is the whole `PUT /v1/classifiers/…` until its answer; the others
are the same prompts sent to Triton directly, in full batches of {manifest.text_max_batch}, {IN_FLIGHT} in flight as the
gateway has, without tokenizing, averaging or saving. Of those that are padded further one batch in {SAMPLED} is
computed and the time multiplied.""",
        f"""Known labels: JPEG 640 x 480 at /v1/classify. One at a time the sides take turns request by request, in
rounds of four; with 16 in flight they take {plan.rounds * PARTS * TOGETHER_FOR} turns of {plan.seconds / PARTS:g} s.
The figures are medians over the rounds' means, and “more” is the median of the rounds' ratios. A form takes at most
1,000 parts,
the picture among them, so a field a label ends at {MANY - 1}: it is shown, and does not count above.""",
    )
    tables = (
        Table(("new labels", f"{MANY} labels ready, s", "prompts/s"), rows),
        Table(
            ("known labels", f"{FEW} labels, ms", f"{MANY:,} labels, ms", "more", f"16 in flight: {FEW}, ms",
             f"{MANY:,}, ms", "more"),
            known,
        ),
    )  # fmt: skip
    return Section("Text", (target, *target_known), tables, notes, {"new prompts/s": prompts / seconds[PUT]})


def new_labels(running: Stack, manifest: Manifest, plan: Plan) -> tuple[dict[str, list[float]], int]:
    """Return the seconds of each side by round, and how many prompts each computes."""
    tokenizer = Tokenizer(running.repository / "tokenizer.json", manifest.text)
    prompts = [template.replace("{}", label) for label in labels(MANY) for template in TEMPLATES]
    rows = tokenizer.ids(prompts)
    same = [batch.input_ids for batch in tokenizer.batches(prompts, manifest.text_max_batch)]
    number = iter(range(plan.rounds))
    sides: dict[str, Callable[[], float]] = {
        PUT: lambda: saved(running, next(number)),
        SAME: lambda: asyncio.run(inferred(f"{running.host}:{running.grpc_port}", same)),
        BUCKETED: partial(sent, running, manifest, rows, manifest.text.length_buckets),
        PADDED: partial(sent, running, manifest, rows, manifest.text.length_buckets[-1:]),
    }
    return alternate(sides, plan.rounds), len(rows)


def saved(running: Stack, number: int) -> float:
    """Save a classifier of labels that are new to the gateway, though to the model they are those of any round."""
    rest(running)
    words = [spelled(label, number + 1) for label in labels(MANY)]
    body = {"labels": words, "templates": list(TEMPLATES)}
    start = time.perf_counter()
    answer = httpx2.put(f"{running.url}/v1/classifiers/new-{number}", json=body, timeout=SAVE_TIMEOUT_S)
    answer.raise_for_status()
    return time.perf_counter() - start


def rest(running: Stack) -> None:
    """Wait until the gateway is ready again: while Triton was flooded directly, its probes found the queue too long."""
    while not is_ready(running.url):
        time.sleep(0.2)


def spelled(label: str, number: int) -> str:
    """Return a label with other letters large for every number up to 31; the tokenizer makes them small again."""
    letters = [letter.upper() if number >> at & 1 else letter for at, letter in enumerate(label.replace(" ", ""))]
    space = label.index(" ")
    return f"{''.join(letters[:space])} {''.join(letters[space:])}"


def sent(running: Stack, manifest: Manifest, rows: Sequence[list[int]], lengths: Iterable[int]) -> float:
    """Return the seconds that Triton needs for all rows, each padded to the shortest of ``lengths`` that holds it."""
    batches, shorter = [], 0
    for length in lengths:
        fitting = [row + [manifest.text.pad_id] * (length - len(row)) for row in rows if shorter < len(row) <= length]
        starts = range(0, len(fitting), manifest.text_max_batch)
        batches += [np.array(fitting[start : start + manifest.text_max_batch], np.int64) for start in starts]
        shorter = length
    sample = batches[::SAMPLED]
    scale = sum(map(np.size, batches)) / sum(map(np.size, sample))
    return scale * asyncio.run(inferred(f"{running.host}:{running.grpc_port}", sample))


async def inferred(address: str, batches: Sequence[np.ndarray]) -> float:
    """Return the seconds until all batches are computed."""
    waiting = iter(batches)
    async with triton.InferenceServerClient(address) as client:

        async def worker() -> None:
            for batch in waiting:
                tensor = triton.InferInput("input_ids", list(batch.shape), "INT64")
                tensor.set_data_from_numpy(batch)
                await client.infer(TEXT_MODEL, [tensor])

        start = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
        return time.perf_counter() - start


def known_labels(running: Stack, plan: Plan) -> tuple[tuple[Target, ...], tuple[tuple[str, ...], ...]]:
    """Return the targets and the table's rows, a row a form of the request."""
    pictures = photographs()
    rest(running)
    for count in (FEW, MANY):
        body = {"labels": labels(count)}
        httpx2.put(f"{running.url}/v1/classifiers/of-{count}", json=body, timeout=SAVE_TIMEOUT_S).raise_for_status()
    requests = {
        (form, count): [request(form, picture, count) for picture in pictures]
        for form in FORMS
        for count in (FEW, MANY)
    }
    address = (running.host, running.port)
    rows, most = [], {1: 0.0, 16: 0.0}
    for form in FORMS:
        few, many = requests[form, FEW], requests[form, MANY]
        # Few, many, many, few: Triton's instances take turns too, and neither side may get one of them for itself.
        turns = [one for a, b, c, d in zip(few, many, many[1:] + many[:1], few[1:] + few[:1], strict=True)
                 for one in (a, b, c, d)]  # fmt: skip
        alone = checked(asyncio.run(closed_loop(address, turns, 1, plan.seconds * plan.rounds * ALONE_FOR)))
        times = in_turns(alone.latencies_s)
        together = alternate(
            {
                str(count): partial(loaded, address, requests[form, count], plan.seconds / PARTS)
                for count in (FEW, MANY)
            },
            plan.rounds * PARTS * TOGETHER_FOR,
        )
        middle = medians(together)
        more = {1: ratio(times, str(MANY), str(FEW)) - 1, 16: ratio(together, str(MANY), str(FEW)) - 1}
        alone_ms = {side: value * 1e3 for side, value in medians(times).items()}
        if form != FIELDS:
            most = {in_flight: max(most[in_flight], more[in_flight]) for in_flight in most}
        rows.append(
            (form, f"{alone_ms[str(FEW)]:.1f}", f"{alone_ms[str(MANY)]:.1f}", f"{more[1]:+.1%}",
             f"{middle[str(FEW)] * 1e3:.0f}", f"{middle[str(MANY)] * 1e3:.0f}", f"{more[16]:+.1%}")
        )  # fmt: skip
    targets = tuple(
        Target(
            f"{MANY:,} known labels of {FEW}, latency, {in_flight} in flight, the worst form",
            f"at most {MORE_AT_MOST:.0%} more",
            f"{value:+.1%}",
            value <= MORE_AT_MOST,
        )
        for in_flight, value in most.items()
    )
    return targets, tuple(rows)


def in_turns(latencies_s: Sequence[float]) -> dict[str, list[float]]:
    """Return each side's mean latency in seconds, a figure for each full round of few, many, many, few."""
    rounds = [latencies_s[at : at + 4] for at in range(0, len(latencies_s) - 3, 4)]
    return {
        str(FEW): [(first + fourth) / 2 for first, _, _, fourth in rounds],
        str(MANY): [(second + third) / 2 for _, second, third, _ in rounds],
    }


def request(form: str, picture: bytes, count: int) -> bytes:
    """Return the bytes of one request in one of the FORMS."""
    words = labels(count)
    if form == "JSON":
        images = [{"base64": base64.b64encode(picture).decode()}]
        return posted("/v1/classify", json.dumps({"images": images, "labels": words}).encode())
    fields = {
        "form with options": [("options", json.dumps({"labels": words}))],
        "form, a field a label": [("labels", word) for word in words[: MANY - 1]],
        "saved classifier": [("classifier", f"of-{count}")],
    }
    return upload("/v1/classify", [picture], fields[form])


def loaded(address: tuple[str, int], requests: Sequence[bytes], seconds: float) -> float:
    """Return the mean latency in seconds with 16 requests in flight: at saturation medians jump with the batches."""
    return statistics.mean(checked(asyncio.run(closed_loop(address, requests, 16, seconds))).latencies_s)


def checked(load: Load) -> Load:
    """Return a load whose answers were all right.

    Raises:
        RuntimeError: they were not.
    """
    if set(load.statuses) != {200}:
        raise RuntimeError(f"answers with status {load.statuses}")
    return load
