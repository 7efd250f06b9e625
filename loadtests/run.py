"""``python -m loadtests.run``: the load test, headless, against the running stack or one that it starts and stops.

The stack is looked for where GATEWAY_HOST, GATEWAY_PORT, TRITON_HOST, TRITON_GRPC_PORT and MODEL_REPOSITORY say, as for
``make serve``. A running gateway fetches URLs for the load test only if it was started with
``FETCH_TEST_ALLOWED_HOSTS=127.0.0.1:8103`` (PICTURE_HOST:PICTURE_PORT); otherwise the URL users are left out, which is
said, or refused if they were asked for by name.

A gateway with API keys needs one with the role infer, without a rate, in CLIP_API_KEY.

Exit codes: 0 all answers were right, 1 some were wrong or missing, 2 there was nothing to test.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from loadtests.picture_server import serving
from loadtests.pictures import DRAWINGS, pictures_in
from loadtests.target import ROOT, NoStack, Target, ask, described, is_running, started, without_grpc

CLASSES = {"upload": "UploadUser", "url": "UrlUser", "batch": "BatchUser", "grpc": "GrpcUser"}
REPORT = "loadtest"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.run", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--users", type=int, default=8, help="users at a time, divided among the classes")
    parser.add_argument("--spawn-rate", type=float, default=4, help="users that start in a second")
    parser.add_argument("--run-time", default="60s", help="such as 30s, 5m, 1h")
    parser.add_argument("--classes", nargs="+", choices=CLASSES, help="kinds of users; all that can run by default")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="folder of the HTML report and the CSVs")
    parser.add_argument("--own-stack", action="store_true", help="start a stack even if one runs already")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    try:
        with ExitStack() as exits:
            cache = Path(os.environ.get("DATA_DIR", "data")) / "cache"
            target, picture_url = exits.enter_context(stack_and_pictures(cache, own_stack=given.own_stack))
            classes = usable(given.classes, target, picture_url)
            return load(given, classes, target, picture_url, cache)
    except NoStack as reason:
        print(f"loadtest: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


@contextmanager
def stack_and_pictures(cache: Path, *, own_stack: bool) -> Iterator[tuple[Target, str]]:
    """Serve the pictures and find or start the stack; yields the stack and the URL of the pictures.

    Raises:
        NoStack: none runs and none can be started.
    """
    environment = dict(os.environ)
    target = described(environment)
    found = not own_stack and is_running(target)
    host = environment.get("PICTURE_HOST", "127.0.0.1") if found else "127.0.0.1"
    port = int(environment.get("PICTURE_PORT", "8103")) if found else 0
    with ExitStack() as exits:
        try:
            port = exits.enter_context(serving("127.0.0.1" if host == "127.0.0.1" else "", port, pictures_in(cache)))
        except OSError as error:
            raise NoStack(
                f"the pictures cannot be served on port {port} ({error.strerror}): set PICTURE_PORT"
            ) from None
        if found:
            print(f"loadtest: using the stack at {target.gateway_url}", flush=True)
        else:
            print(f"loadtest: no stack at {target.gateway_url}, starting one", flush=True)
            target = exits.enter_context(started(environment, f"{host}:{port}"))
        yield target, f"http://{host}:{port}"


def usable(asked: Sequence[str] | None, target: Target, picture_url: str) -> list[str]:
    """Return the kinds of users that this stack can serve.

    Raises:
        NoStack: one that was asked for by name cannot run.
    """
    obstacles = {}
    body = {"images": [{"url": f"{picture_url}/{DRAWINGS[0].file}"}], "labels": ["a circle", "a square"]}
    status, answer = ask(target.gateway_url, "/v1/classify", body)
    if status in {401, 403}:
        raise NoStack(f"{target.gateway_url} asks for an API key with the role infer: set CLIP_API_KEY")
    if status == 422 and answer["code"].startswith("source_"):
        address = picture_url.removeprefix("http://")
        obstacles["url"] = f"the gateway may not fetch from {address}: start it with FETCH_TEST_ALLOWED_HOSTS={address}"
    if missing := without_grpc(target):
        obstacles["grpc"] = missing
    for kind, obstacle in obstacles.items():
        if asked and kind in asked:
            raise NoStack(f"no {kind} users: {obstacle}")
        print(f"loadtest: without {kind} users: {obstacle}", flush=True)
    return [kind for kind in asked or CLASSES if kind not in obstacles]


def load(given: argparse.Namespace, classes: Sequence[str], target: Target, picture_url: str, cache: Path) -> int:
    """Run Locust and judge what it measured; return the exit code."""
    given.reports.mkdir(parents=True, exist_ok=True)
    prefix = given.reports / REPORT
    stats = Path(f"{prefix}_stats.csv")
    stats.unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "locust", "--locustfile", str(Path(__file__).with_name("locustfile.py"))),
        *("--headless", "--only-summary", "--loglevel", "WARNING", "--host", target.gateway_url),
        *("--users", str(given.users), "--spawn-rate", str(given.spawn_rate), "--run-time", given.run_time),
        *("--stop-timeout", "30", "--html", f"{prefix}.html", "--csv", str(prefix)),
        *("--pictures", str(cache), "--picture-url", picture_url),
        *("--grpc-address", target.grpc_address, "--tokenizer", str(target.tokenizer)),
        *(CLASSES[kind] for kind in classes),
    ]
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    done = subprocess.run(command, env=environment, check=False)  # noqa: S603 - Locust with our own arguments
    faults = faults_of(stats, classes)
    for fault in faults:
        print(f"loadtest: {fault}", file=sys.stderr)
    print(f"loadtest: {'FAILED' if faults or done.returncode else 'passed'}; report in {prefix}.html", flush=True)
    return 1 if faults or done.returncode else 0


def faults_of(stats: Path, classes: Sequence[str]) -> list[str]:
    """Return what is wrong with the figures: failed requests, or kinds of users that did nothing."""
    if not stats.is_file():
        return ["Locust wrote no figures"]
    with stats.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["Name"] != "Aggregated"]
    faults = [f"{row['Name']}: {row['Failure Count']} failures" for row in rows if int(row["Failure Count"])]
    busy = {kind for kind in classes for row in rows if row["Name"].startswith(kind) and int(row["Request Count"])}
    return faults + [f"the {kind} users made no request" for kind in classes if kind not in busy]


if __name__ == "__main__":
    sys.exit(main())
