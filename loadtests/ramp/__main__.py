"""``python -m loadtests.ramp``: load to saturation, by REST and by gRPC, and the curve of throughput and latency.

Against the stack of LOADTEST_URL, or the one that GATEWAY_HOST, GATEWAY_PORT, TRITON_HOST, TRITON_GRPC_PORT and
MODEL_REPOSITORY describe, as for ``make serve``; where none runs it starts one, and stops it. A gateway with API keys
needs one with the role infer, without a rate, in CLIP_API_KEY.

It leaves ``loadtest.svg`` (the picture), ``loadtest.html`` (picture, figures and Locust's reports in one file) and
``loadtest-rest.json`` and ``loadtest-grpc.json`` in the folder of reports.

Exit codes: 0 a curve was measured, 1 some answers were wrong, 2 there was nothing to test.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from loadtests.pictures import DRAWINGS, pictures_in
from loadtests.ramp.curve import svg
from loadtests.ramp.page import page
from loadtests.ramp.steps import Ramp, Rule, read, saturation
from loadtests.target import ROOT, NoStack, Target, ask, described, is_running, started, without_grpc
from scripts.bench.machine import machine

PROTOCOLS = {"rest": "RestUser", "grpc": "DirectUser"}
COMMON = "thumbnail.jpg,avatar.png,web.webp,screen.png"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    given = parsed(arguments)
    rule = Rule(
        first=given.first_users, factor=given.factor, most=given.most_users, step_s=given.step, settle_s=given.settle,
        growth=given.growth, patience=given.patience,
    )  # fmt: skip
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    try:
        with ExitStack() as exits:
            pictures_in(cache())  # drawn before anything is measured
            target = exits.enter_context(stack(own=given.own_stack))
            given.reports.mkdir(parents=True, exist_ok=True)
            ramps = [climb(kind, rule, given, target) for kind in reachable(given.protocols, target)]
            return report(ramps, rule, target, given.reports)
    except NoStack as reason:
        print(f"loadtest: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; their defaults are taken from the environment."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.ramp", description=(__doc__ or "").split("\n")[0])
    rule = Rule()

    def option(name: str, kind: type, default: object, words: str) -> None:
        variable = f"LOADTEST_{name.upper().replace('-', '_')}"
        value = os.environ.get(variable) or default
        parser.add_argument(f"--{name}", type=kind, default=value, help=f"{words} ({variable}, default {default})")

    option("first-users", int, rule.first, "users of the first step")
    option("factor", float, rule.factor, "by which users grow from step to step")
    option("most-users", int, rule.most, "users of the last step that may be")
    option("step", float, rule.step_s, "seconds measured of a step")
    option("settle", float, rule.settle_s, "seconds before them, not measured")
    option("growth", float, rule.growth, "share that a step must bring to count as growth")
    option("patience", int, rule.patience, "steps in a row without growth that end the ramp")
    option("pictures", str, COMMON, f"uploaded, of {', '.join(drawing.file for drawing in DRAWINGS)}")
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, help="all that can run by default")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="folder of what is written")
    parser.add_argument("--own-stack", action="store_true", help="start a stack even if one runs already")
    given = parser.parse_args(arguments)
    if unknown := set(given.pictures.split(",")) - {drawing.file for drawing in DRAWINGS}:
        parser.error(f"no picture {', '.join(sorted(unknown))} in the set")
    if given.factor <= 1 or min(given.first_users, given.most_users, given.patience) < 1 or given.step <= 0:
        parser.error("the factor must be above 1, users and patience at least 1, and a step above 0 seconds")
    return given


@contextmanager
def stack(*, own: bool) -> Iterator[Target]:
    """Yield the stack that runs, or one that is started and stopped.

    Raises:
        NoStack: none runs and none can be started.
    """
    target = described(os.environ)
    if not own and is_running(target):
        print(f"loadtest: using the stack at {target.gateway_url}", flush=True)
        yield target
        return
    if os.environ.get("LOADTEST_URL") and not own:
        raise NoStack(f"nothing answers at {target.gateway_url}")
    print(f"loadtest: no stack at {target.gateway_url}, starting one", flush=True)
    with started(os.environ, "") as target:
        yield target


def reachable(asked: Sequence[str] | None, target: Target) -> list[str]:
    """Return the protocols that this stack can be loaded by.

    Raises:
        NoStack: one that was asked for by name cannot be used, or the gateway asks for a key.
    """
    if ask(target.gateway_url, "/v1/models")[0] in {401, 403}:
        raise NoStack(f"{target.gateway_url} asks for an API key with the role infer: set CLIP_API_KEY")
    obstacle = without_grpc(target)
    if obstacle and asked and "grpc" in asked:
        raise NoStack(f"not by gRPC: {obstacle}")
    if obstacle:
        print(f"loadtest: without gRPC: {obstacle}", flush=True)
    return [kind for kind in asked or PROTOCOLS if kind == "rest" or not obstacle]


def cache() -> Path:
    """Return where the drawn pictures are kept."""
    return Path(os.environ.get("DATA_DIR", "data")) / "cache"


def climb(kind: str, rule: Rule, given: argparse.Namespace, target: Target) -> tuple[Ramp, Path]:
    """Run Locust for one protocol; return what it measured and the file of its own report.

    Raises:
        NoStack: it measured nothing.
    """
    prefix = given.reports / f"loadtest-{kind}"
    steps, own = prefix.with_suffix(".json"), Path(f"{prefix}-locust.html")
    steps.unlink(missing_ok=True)
    print(f"loadtest: {'REST' if kind == 'rest' else 'gRPC'}", flush=True)
    command = [
        *(sys.executable, "-m", "locust", "--locustfile", str(Path(__file__).with_name("users.py"))),
        *("--headless", "--only-summary", "--loglevel", "ERROR", "--host", target.gateway_url),
        *("--stop-timeout", "30", "--html", str(own), "--exit-code-on-error", "0"),
        *("--rule", json.dumps(dataclasses.asdict(rule)), "--drawings", *given.pictures.split(",")),
        *("--steps-file", str(steps), "--pictures", str(cache())),
        *("--grpc-address", target.grpc_address, "--tokenizer", str(target.tokenizer)),
        PROTOCOLS[kind],
    ]
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    done = subprocess.run(command, env=environment, check=False, stdout=None, stderr=subprocess.PIPE, text=True)  # noqa: S603
    try:
        return read(steps), own
    except OSError:
        tail = "\n".join(done.stderr.splitlines()[-15:])
        raise NoStack(f"Locust ended with code {done.returncode} before it had measured anything:\n{tail}") from None


def report(ramps: Sequence[tuple[Ramp, Path]], rule: Rule, target: Target, folder: Path) -> int:
    """Write picture and page; return the exit code."""
    _, models = ask(target.gateway_url, "/v1/models")
    model = models["data"][0] if isinstance(models, dict) and models.get("data") else {}
    title = f"Load to saturation: {model.get('id', 'a model')}, {model.get('precision', '')}".rstrip(", ")
    today = dt.datetime.now(tz=dt.UTC).date().isoformat()
    ends = " ".join(f"{ramp.kind} ended: {ramp.ended}." for ramp, _ in ramps)
    caption = f"{today}; {machine()}. {rule.words()} {client_share([ramp for ramp, _ in ramps])}"
    picture = svg([ramp for ramp, _ in ramps], title, f"{caption} {ends}")
    (folder / "loadtest.svg").write_text(picture, encoding="utf-8")
    (folder / "loadtest.html").write_text(page(title, caption, ramps), encoding="utf-8")
    wrong = sum(step.wrong for ramp, _ in ramps for step in ramp.steps)
    if wrong:
        print(f"loadtest: {wrong} wrong answers", file=sys.stderr)
    print(
        f"loadtest: {'FAILED' if wrong else 'passed'}; {folder / 'loadtest.html'}, {folder / 'loadtest.svg'}",
        flush=True,
    )
    return 1 if wrong else 0


def client_share(ramps: Sequence[Ramp]) -> str:
    """Return one sentence saying what the load itself took, since it shares the machine with a stack on it."""
    shares = [
        f"{knee.client_cores:.2f} cores at the saturation by {ramp.kind}"
        for ramp in ramps
        if (knee := saturation(ramp.steps)) is not None
    ]
    taken = " and ".join(shares) or "part of it"
    return f"Locust ran on this machine, too, and took {taken}, which a stack on the same machine then lacked."


if __name__ == "__main__":
    sys.exit(main())
