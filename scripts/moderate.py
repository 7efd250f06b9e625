"""Moderate or classify many pictures through a running gateway.

    python -m scripts.moderate pictures/ one.jpg --urls list.txt --out results.jsonl
    python -m scripts.moderate pictures/ --labels 'a cat' 'a dog' --format csv --out results.csv

Files, folders (searched through) and URLs, one a line of a file. Each picture is one request, several at a time; busy
answers are tried again after the pause they ask for. With --resume, pictures that the output already holds an answer
for are left out, so that an interrupted run goes on where it stopped; its exit code counts them all the same.

Exit code: 0 done and nothing at or above --fail-on; 1 something was; 2 wrong usage, or the output cannot be written;
3 some pictures failed; 4 the gateway cannot be reached; 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import httpx2
from tqdm import tqdm

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif", ".heic", ".heif", ".mpo", ".apng", ".jfif"})
COLUMNS = ("source", "decision", "top", "score", "image_sha256", "decision_id", "policy", "model", "error", "detail")
STRICTNESS = {"allow": 0, "review": 1, "block": 2}
TRIES = 6
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
REACHING_TRIES = 3
BUSY = frozenset({408, 429, 503, 504})
DONE, FOUND, USAGE, FAILED, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 4, 130


@dataclass(frozen=True, slots=True)
class Job:
    """What to ask and where.

    Attributes:
        address: of the gateway.
        path: of the route.
        fields: form fields of every request.
        concurrency: requests at a time.
        timeout_s: of one request.
        key: API key or None.
    """

    address: str
    path: str
    fields: dict[str, Any]
    concurrency: int
    timeout_s: float
    key: str | None


def sources(paths: Sequence[Path], urls: Path | None) -> Iterator[str]:
    """Yield every picture's path or URL once, folders searched through in order.

    Raises:
        FileNotFoundError: a path is not there.
    """
    seen: set[str] = set()
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(path)
        found = sorted(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else [path]
        for entry in found:
            if (not path.is_dir() or entry.suffix.lower() in SUFFIXES) and str(entry) not in seen:
                seen.add(str(entry))
                yield str(entry)
    for line in urls.read_text(encoding="utf-8").splitlines() if urls else ():
        url = line.strip()
        if url and not url.startswith("#") and url not in seen:
            seen.add(url)
            yield url


async def ask(client: httpx2.AsyncClient, job: Job, source: str) -> dict[str, Any]:
    """Return one picture's line: source and result, or source and error. Busy answers are tried again.

    Raises:
        httpx2.TransportError: the gateway cannot be reached.
    """
    content = b""
    if "://" not in source:
        try:
            content = await asyncio.to_thread(Path(source).read_bytes)
        except OSError as error:
            return {"source": source, "error": {"code": "unreadable_file", "detail": error.strerror}}
    attempt = 0
    while True:
        attempt += 1
        pause_s = FIRST_PAUSE_S * 2 ** (attempt - 1)
        try:
            answer = await post(client, job, source, content)
        except httpx2.TransportError as error:
            if attempt < REACHING_TRIES:  # a connection that broke, a gateway that starts again
                await asyncio.sleep(pause_s)
                continue
            if isinstance(error, httpx2.ReadTimeout):  # it may be this picture's: others may fare better
                return {"source": source, "error": {"code": "no_answer", "detail": f"none in {job.timeout_s:g} s"}}
            raise
        if answer.status_code not in BUSY or attempt >= TRIES:
            break
        given = answer.headers.get("retry-after", "")
        await asyncio.sleep(min(LONGEST_PAUSE_S, float(given) if given.isdecimal() else pause_s))
    try:
        body = answer.json()
    except ValueError:
        return {"source": source, "error": {"code": "no_json", "detail": f"status {answer.status_code}"}}
    if answer.status_code != httpx2.codes.OK and isinstance(body, dict):
        return {"source": source, "error": body}
    try:
        model, result = body["model"], dict(body["results"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        return {
            "source": source,
            "error": {"code": "no_gateway", "detail": f"status {answer.status_code}, another form"},
        }
    return {"source": source, "model": model, **{name: value for name, value in result.items() if name != "index"}}


async def post(client: httpx2.AsyncClient, job: Job, source: str, content: bytes) -> httpx2.Response:
    """Send one picture, by its URL or its bytes."""
    if "://" in source:
        return await client.post(job.path, json={**job.fields, "images": [{"url": source}]})
    # Not under the file's own name: it may hold what no header can.
    return await client.post(job.path, files={"file": ("picture", content)}, data={"options": json.dumps(job.fields)})


def row(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line's columns for CSV."""
    best = (line.get("categories") or line.get("scores") or [{}])[0]
    error = line.get("error") or {}
    policy = line.get("policy")
    return {
        "source": line["source"],
        "decision": line.get("decision", ""),
        "top": best.get("category", best.get("label", "")),
        "score": best.get("score", ""),
        "image_sha256": (line.get("image") or {}).get("sha256", ""),
        "decision_id": line.get("decision_id", ""),
        "policy": f"{policy['name']}@{policy['version']}" if policy else "",
        "model": (line.get("model") or {}).get("id", ""),
        "error": error.get("code", ""),
        "detail": error.get("detail", ""),
    }


def answered(out: Path, form: str) -> dict[str, str]:
    """Return the sources that an output already holds an answer for, with their decisions; "" where there is none.

    Raises:
        ValueError: the output is not of that form.
    """
    if not out.exists():
        return {}
    text = out.read_text(encoding="utf-8", errors="surrogateescape")
    lines: list[Any] = []
    if form == "csv":
        rows = csv.DictReader(io.StringIO(text, newline=""))
        if text and tuple(rows.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{out} is no CSV of this program")
        lines = list(rows)
    else:
        for line in text.split("\n"):
            with contextlib.suppress(ValueError):  # cut short by an interruption of long ago
                lines.append(json.loads(line))
        lines = [line for line in lines if isinstance(line, dict) and isinstance(line.get("source"), str)]
        if text and not lines:
            raise ValueError(f"{out} holds no lines of this program")
    return {line["source"]: line.get("decision") or "" for line in lines if not line.get("error")}


def drop_cut_line(out: Path) -> None:
    """Take away a last line that an interruption cut short: it is asked for again."""
    if out.exists():
        with out.open("r+b") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)


def is_found(decision: str | None, fail_on: str) -> bool:
    """Return whether a decision is at or above --fail-on."""
    return fail_on != "never" and STRICTNESS.get(decision or "", -1) >= STRICTNESS[fail_on]


def write(line: dict[str, Any], form: str, file: TextIO) -> None:
    """Write one line and let it reach the disk: what is written counts as done."""
    if form == "csv":
        csv.DictWriter(file, COLUMNS).writerow(row(line))
    else:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    file.flush()


async def run(job: Job, wanted: list[str], form: str, file: TextIO, fail_on: str, worst: int = DONE) -> int:
    """Ask for every picture and write every line; return the exit code, FOUND if that is how bad it already is."""
    failed = 0
    queue = iter(wanted)
    headers = {"Authorization": f"Bearer {job.key}"} if job.key else {}
    with tqdm(total=len(wanted), unit="picture", disable=None) as bar:
        async with httpx2.AsyncClient(base_url=job.address, timeout=job.timeout_s, headers=headers) as client:

            async def worker() -> None:
                nonlocal worst, failed
                for source in queue:
                    line = await ask(client, job, source)
                    write(line, form, file)
                    failed += bool(line.get("error"))
                    if is_found(line.get("decision"), fail_on):
                        worst = FOUND
                    bar.update()

            workers = [asyncio.create_task(worker()) for _ in range(job.concurrency)]
            try:
                await asyncio.gather(*workers)
            finally:
                for task in workers:
                    task.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
    if failed:
        print(f"{failed} of {len(wanted)} pictures failed; their lines say why.", file=sys.stderr)
    return worst or (FAILED if failed else DONE)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("paths", nargs="*", type=Path, help="files and folders")
    made.add_argument("--urls", type=Path, help="file with a URL a line")
    made.add_argument("--address", default="http://127.0.0.1:8000")
    made.add_argument("--key", default=os.environ.get("CLIP_API_KEY"), help="API key; CLIP_API_KEY by default")
    made.add_argument("--policy", help="name or name@version; default by default")
    made.add_argument("--labels", nargs="+", help="classify by these instead of moderating")
    made.add_argument("--classifier", help="classify by this instead of moderating")
    made.add_argument("--views", choices=["center", "full", "tiles"], default="center", help="of classification")
    made.add_argument("--out", type=Path, help="standard output by default")
    made.add_argument("--format", choices=["jsonl", "csv"], default="jsonl")
    made.add_argument("--resume", action="store_true", help="leave out what the output already answers")
    made.add_argument("--concurrency", type=int, default=8)
    made.add_argument("--timeout", type=float, default=60.0, help="seconds of one request")
    made.add_argument("--fail-on", choices=["review", "block", "never"], default="block")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    command = parser()
    given = command.parse_args(arguments)
    if not given.paths and not given.urls:
        command.error("name files or folders, or give --urls")
    if given.resume and not given.out:
        command.error("--resume needs --out")
    if given.concurrency < 1:
        command.error("--concurrency is at least 1")
    if given.labels and given.classifier:
        command.error("give --labels or --classifier, not both")
    if given.policy and (given.labels or given.classifier):
        command.error("--policy moderates, --labels and --classifier classify: give one of them")
    try:
        return work(given)
    except httpx2.TransportError as error:
        print(f"the gateway at {given.address} cannot be reached ({type(error).__name__})", file=sys.stderr)
        return UNREACHABLE
    except httpx2.InvalidURL:
        print(f"{given.address} is no address; http://host:port is", file=sys.stderr)
    except (OSError, UnicodeDecodeError) as error:
        print(f"cannot read or write {getattr(error, 'filename', None) or error}", file=sys.stderr)
    except ValueError as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted; go on with --resume", file=sys.stderr)
        return INTERRUPTED
    return USAGE


def work(given: argparse.Namespace) -> int:
    """Do what the command line says; return the exit code.

    Raises:
        OSError, ValueError: files that cannot be used.
        httpx2.TransportError, httpx2.InvalidURL: the gateway cannot be reached.
    """
    fields: dict[str, Any] = {"policy": given.policy or "default"}
    if given.labels or given.classifier:
        asked = {"labels": given.labels} if given.labels else {"classifier": given.classifier}
        fields = {**asked, "views": given.views}
    path = "/v1/classify" if given.labels or given.classifier else "/v1/moderate"
    wanted = list(sources(given.paths, given.urls))
    known: dict[str, str] = {}
    if given.resume:
        drop_cut_line(given.out)
        known = answered(given.out, given.format)
    before = FOUND if any(is_found(known.get(source), given.fail_on) for source in wanted) else DONE
    wanted = [source for source in wanted if source not in known]
    job = Job(given.address, path, fields, given.concurrency, given.timeout, given.key)
    with output(given.out, append=given.resume) as file:
        if given.format == "csv" and not (given.out and given.out.stat().st_size):
            csv.DictWriter(file, COLUMNS).writeheader()
        return asyncio.run(run(job, wanted, given.format, file, given.fail_on, before))


def output(out: Path | None, *, append: bool) -> TextIO:
    """Open the output; names that are no UTF-8 are written as the bytes they are."""
    if out is None:
        return open(sys.stdout.fileno(), "w", encoding="utf-8", errors="surrogateescape", newline="", closefd=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    return out.open("a" if append else "w", encoding="utf-8", errors="surrogateescape", newline="")


if __name__ == "__main__":
    sys.exit(main())
