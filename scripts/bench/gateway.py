"""What the gateway costs: REST uploads beside bare gRPC beside encoder and decoder alone, all on the same cores."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from functools import partial

from gateway.inference.bundle import read_manifest
from scripts.bench import alone, bare, client
from scripts.bench.alternate import alternate
from scripts.bench.machine import cores
from scripts.bench.pictures import photographs
from scripts.bench.plan import Plan
from scripts.bench.processes import spent
from scripts.bench.report import Section, Table, Target
from scripts.bench.stack import Stack, stack

LABELS = ("a cat", "a dog", "a car", "a house", "something else")
LIGHT = (1, 4, 16)
SATURATION = 64
LEAST = 0.97
FINALISTS = 3


def classification(picture: bytes) -> bytes:
    """Return the request that is measured: one upload, five labels."""
    return client.upload("/v1/classify", [picture], [("labels", label) for label in LABELS])


def through_rest(running: Stack, requests: list[bytes], in_flight: int, seconds: float) -> client.Load:
    """Return what a closed loop of uploads measured.

    Raises:
        RuntimeError: an answer was no 200.
    """
    load = asyncio.run(client.closed_loop((running.host, running.port), requests, in_flight, seconds, warm=SATURATION))
    if set(load.statuses) != {200}:
        raise RuntimeError(f"answers other than 200: {load.statuses}")
    return load


def measure(plan: Plan) -> Section:
    """Measure all sides in turns; the figures at saturation for five times as long, since answers come in batches."""
    requests = [classification(picture) for picture in photographs()]
    own = cores()
    with stack(plan.model, plan.precision, plan.device, {"LOG_LEVEL": "info"}) as running:
        side = read_manifest(running.repository).image.size_px
        sent = bare.message(side)
        address = f"{running.host}:{running.grpc_port}"
        long = 5 * plan.seconds  # answers come in batches
        costs: dict[str, list[dict[str, float]]] = {"grpc": [], "rest": []}

        def counted(name: str, ask: Callable[[], client.Load]) -> client.Load:
            before = spent(running.pid)
            load = ask()
            after = spent(running.pid)
            pictures = len(load.latencies_s) + load.warm
            cost = {kind: (after[kind] - before.get(kind, 0.0)) / pictures for kind in after}
            costs[name].append(cost | {"client": load.client_s / len(load.latencies_s)})
            return load

        def grpc(in_flight: int) -> Callable[[], client.Load]:
            return lambda: asyncio.run(bare.closed_loop(address, sent, in_flight, plan.seconds))

        def rest(in_flight: int) -> Callable[[], client.Load]:
            return lambda: through_rest(running, requests, in_flight, plan.seconds)

        loads = {
            "grpc": lambda: counted("grpc", lambda: asyncio.run(bare.closed_loop(address, sent, SATURATION, long))),
            "rest": lambda: counted("rest", lambda: through_rest(running, requests, SATURATION, long)),
            **{f"grpc {n}": grpc(n) for n in LIGHT},
            **{f"rest {n}": rest(n) for n in LIGHT},
        }
        # Once each, to know which ways of running the encoder may be the best; these in turns with the loads.
        ways = alone.settings(running.repository)
        once = {setting: alone.encoder(running.repository, setting, plan.seconds / 3) for setting in ways}
        tried = sorted(once, key=lambda setting: once[setting].rate)[-FINALISTS:]
        by_itself: dict[str, Callable[[], alone.Alone]] = {
            setting.words(): partial(alone.encoder, running.repository, setting, plan.seconds) for setting in tried
        }
        by_itself["decoder"] = lambda: alone.decoder(side, plan.seconds / 2)
        found = alternate({**by_itself, **loads}, plan.rounds)
    finalists: dict[str, list[alone.Alone]] = {setting.words(): found[setting.words()] for setting in tried}  # type: ignore[misc]
    best = max(finalists, key=lambda words: statistics.median(one.rate for one in finalists[words]))
    encoders = finalists[best]
    decoders: list[alone.Alone] = found["decoder"]  # type: ignore[assignment]
    in_grpc: list[client.Load] = found["grpc"]  # type: ignore[assignment]
    in_rest: list[client.Load] = found["rest"]  # type: ignore[assignment]
    shares, shares_net, shares_grpc = [], [], []
    for number, (encoder, decoder) in enumerate(zip(encoders, decoders, strict=True)):
        core_s = own / encoder.rate + decoder.core_s
        client_s = costs["rest"][number]["client"]
        shares.append(in_rest[number].rate / min(in_grpc[number].rate, own / core_s))
        shares_net.append(in_rest[number].rate / min(in_grpc[number].rate, own / (core_s + client_s)))
        shares_grpc.append(in_grpc[number].rate / encoder.rate)
    share, net, share_grpc = (statistics.median(values) for values in (shares, shares_net, shares_grpc))
    rate = statistics.median(load.rate for load in in_rest)
    rows = [(f"encoder alone, {setting.words()} (once)", f"{one.rate:.1f}", "", "") for setting, one in once.items()]
    for words, several_alone in finalists.items():
        median = statistics.median(one.rate for one in several_alone)
        rows.append((f"encoder alone, {words}", f"{median:.1f}", "", ""))
    rows.append((f"decoder alone, {own} processes", f"{statistics.median(one.rate for one in decoders):.0f}", "", ""))
    for name, words in (("grpc", "bare gRPC, ready tensors"), ("rest", "REST upload")):
        for n in (*LIGHT, SATURATION):
            several: list[client.Load] = found[name if n == SATURATION else f"{name} {n}"]  # type: ignore[assignment]
            rates, halves, lates = (
                statistics.median(values)
                for values in (
                    [load.rate for load in several],
                    [load.percentile(0.5) for load in several],
                    [load.percentile(0.99) for load in several],
                )
            )
            rows.append((f"{words}, {n} in flight", f"{rates:.1f}", f"{halves * 1e3:.0f}", f"{lates * 1e3:.0f}"))
    kinds = ("client", "gateway", "decoders", "triton", "encoders", "launcher")
    spent_rows = [
        (kind, *(f"{statistics.median(cost.get(kind, 0.0) for cost in costs[n]) * 1e3:.2f}" for n in ("grpc", "rest")))
        for kind in kinds
    ]
    targets = (
        Target("REST upload of min(bare gRPC, cores / (encoder + decode))", f"at least {LEAST:.0%}", f"{share:.1%}",
               share >= LEAST),
        Target("bare gRPC of the encoder alone", f"at least {LEAST:.0%}", f"{share_grpc:.1%}", share_grpc >= LEAST),
    )  # fmt: skip
    notes = (
        (
            f"JPEG 640 x 480, five labels, {own} cores shared by client, gateway and Triton. The encoder alone is the "
            "best of the batches and ways of dividing the cores above, the served one among them, in the same "
            "environment as Triton's processes. With "
            f"the client's processor time taken from what the cores could do, REST reaches {net:.1%}."
        ),
        _difference(
            {kind: statistics.median(cost.get(kind, 0.0) for cost in costs["rest"]) * 1e3 for kind in kinds},
            statistics.median(own / one.rate for one in encoders) * 1e3,
            statistics.median(one.core_s for one in decoders) * 1e3,
        ),
        "Processor time is that of whole processes, so it holds what they do when nobody asks, too.",
    )
    return Section(
        "Gateway",
        targets,
        (
            Table(("side", "pictures/s", "median, ms", "p99, ms"), tuple(rows)),
            Table(("processor ms a picture at saturation", "bare gRPC", "REST"), tuple(spent_rows)),
        ),
        notes,
        {f"rest {plan.precision}": rate, "rest share": share, "grpc share": share_grpc},
    )


def _difference(spent_ms: dict[str, float], encoder_ms: float, decoder_ms: float) -> str:
    """Return in words where a picture's processor time goes under REST, beside what it takes alone; milliseconds."""
    encoders, decoders = spent_ms["encoders"] - encoder_ms, spent_ms["decoders"] - decoder_ms
    return (
        f"A picture takes {sum(spent_ms.values()):.1f} ms of processor time under REST, and "
        f"{encoder_ms + decoder_ms:.1f} where encoder and decoder are alone. The difference: {encoders:+.1f} ms "
        "the encoder in Triton (other batches than the best alone, tensors between processes, caches shared), "
        f"{decoders:+.1f} ms the decoders, {spent_ms['gateway']:.1f} ms the gateway, "
        f"{spent_ms['triton']:.1f} ms Triton's own, {spent_ms['client']:.1f} ms the client."
    )
