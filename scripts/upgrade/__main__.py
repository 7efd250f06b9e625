"""``python -m scripts.upgrade``: does a request fail while the model is changed, A to B and back, on one database?

Staged as docs/upgrading.md has it: gateway and Triton of each bundle, and in front nginx with the file that is shipped,
which finds the gateways by a name. Clients moderate and classify throughout, over kept connections and fresh ones.
The policies of A are carried to B, B answers beside A, then alone; A is stopped, started again, answers beside B, then
alone. The exit status is 1 if a request got another answer than 200, if one was decided by anything but what is in
force for the bundle that it names, or if the log of decisions says other than the answers.

It runs from a checkout: name server, nginx and PostgreSQL are those of the tests.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from scripts.bench.machine import machine
from scripts.upgrade.checks import UpgradeOutcome, faults, unlike_the_log
from scripts.upgrade.clients import OK, ClientAnswer, Clients, UpgradeFailed
from scripts.upgrade.sides import BundleSide, carry, got
from tests.conftest import free_ports
from tests.support.postgres_server import NoServer, running_server
from tests.support.proxies import proxy
from tests.support.service_name import ServiceName
from tests.support.tiny_clip import tiny_clip

NAME = "gateway.test"
CLASSIFIER = {"labels": ["a red circle", "a blue square"]}
POLICY = {
    "rules": [{"category": "circles", "classifier": "shapes", "labels": ["a red circle"], "review_at": 0.5}],
    "views": "full",
}
CLIENTS = 4
SETTLED = 50  # answers in a row from one bundle: the other one gets no more


@dataclass(frozen=True)
class Staged:
    """What is upgraded.

    Attributes:
        old: its Triton and gateway run, and the name says so.
        new: only its Triton runs.
        name: by which the proxy finds the gateways.
        clients: that run already.
    """

    old: BundleSide
    new: BundleSide
    name: ServiceName
    clients: Clients


def upgrade(it: Staged, hold: int) -> UpgradeOutcome:
    """Go from one bundle to the other and back, by docs/upgrading.md, while the clients go on; stop them in the end.

    Args:
        it: what is upgraded.
        hold: answers to wait for after each step.

    Raises:
        UpgradeFailed: a step did not work.
    """
    old, new, load = it.old, it.new, it.clients
    begin, steps = time.monotonic(), {}

    def done(step: str, wanted: set[str]) -> None:
        seen = len(load.answers)
        load.wait(lambda answers: settled(answers[seen:], wanted), f"{step}: answers of {wanted} alone")
        held = len(load.answers) + hold
        load.wait(lambda answers: len(answers) >= held, f"{step}: {hold} more answers")
        steps[step] = time.monotonic() - begin

    done("A alone", {old.bundle_id})
    new.start()
    before = got(f"{new.url}/readyz")
    if before["degraded"] != ["policies"]:
        raise UpgradeFailed(f"the new gateway does not say that policies cannot be applied: {before}")
    carry(new, old.bundle_id, new.bundle_id)
    if (after := got(f"{new.url}/readyz"))["degraded"]:
        raise UpgradeFailed(f"carried, and still degraded: {after}")
    in_force = {old.bundle_id: old.versions(), new.bundle_id: new.versions()}
    it.name.addresses = [old.host, new.host]
    done("A and B", {old.bundle_id, new.bundle_id})
    it.name.addresses = [new.host]
    done("B alone", {new.bundle_id})
    old.stop()
    done("A stopped", {new.bundle_id})
    old.start()
    it.name.addresses = [old.host, new.host]
    done("A again, and B", {old.bundle_id, new.bundle_id})
    new.stop()  # still named, as Docker names a container until it has ended
    done("B stopped", {old.bundle_id})
    it.name.addresses = [old.host]
    done("A alone again", {old.bundle_id})
    load.stop()
    steps["over"] = time.monotonic() - begin
    return UpgradeOutcome(
        load.answers, [*faults(load.answers, in_force), *unlike_the_log(load.answers, old.url)], steps
    )


def settled(answers: list[ClientAnswer], wanted: set[str]) -> bool:
    """Return whether the last answers came from just these bundles."""
    last = {answer.bundle_id for answer in answers[-SETTLED:] if answer.bundle_id}
    return len(answers) >= SETTLED and last == wanted


@contextmanager
def staged(folder: Path, old: tuple[str, Path], new: tuple[str, Path], database_url: str) -> Iterator[Staged]:
    """Run both Tritons, the old gateway with a policy of its own, and the proxy; yields them once clients run.

    Args:
        folder: for all that is written.
        old: ``MODEL`` and repository.
        new: likewise.
        database_url: of both.
    """
    (port,) = free_ports(1)
    hosts = ("127.0.0.2", "127.0.0.3")
    first, second = (
        BundleSide(model, repository, host, port, folder / host, database_url)
        for (model, repository), host in zip((old, new), hosts, strict=True)
    )
    with ExitStack() as exits:
        for side in (first, second):
            exits.enter_context(side.triton())
            exits.callback(side.kill)
        first.start()
        for path, body in (("classifiers/shapes", CLASSIFIER), ("policies/shapes", POLICY)):
            httpx2.put(f"{first.url}/v1/{path}", json=body, timeout=60).raise_for_status()
        names = exits.enter_context(ServiceName(NAME, [first.host]))
        upstream = {"PROXY_UPSTREAM": f"{NAME}:{port}", "PROXY_RESOLVER": names.address}
        address = exits.enter_context(proxy(folder / "proxy", port, **upstream)).url.removeprefix("http://").split(":")
        load = Clients((address[0], int(address[1])))
        load.wait(lambda _: httpx2.get(f"http://{':'.join(address)}/readyz").status_code == OK, "the proxy")
        load.start(CLIENTS)
        try:
            yield Staged(first, second, names, load)
        finally:
            load.stop()


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """Run an empty database; yields its URL.

    Raises:
        NoServer: there is no PostgreSQL here.
    """
    if kind == "sqlite":
        yield f"sqlite:///{folder}/gateway.sqlite"
        return
    with running_server() as server:
        yield server.new_database()


def main() -> int:
    """Read the command line, stage it, and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hold", type=int, default=2000, help="answers to wait for after each of the seven steps")
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    given = parser.parse_args()
    print(machine(), flush=True)
    folder = Path(tempfile.mkdtemp(prefix="upgrade-"))
    try:
        model = tiny_clip(folder / "tiny", seed=1, max_position_embeddings=200)
        sides = ("demo", folder / "demo-bundle"), (str(model), folder / "tiny-bundle")
        with database(given.database, folder) as url, staged(folder, *sides, url) as it:
            outcome = upgrade(it, given.hold)
    except (UpgradeFailed, NoServer) as failed:
        print(f"upgrade: {failed}", file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join([f"on {given.database}", *outcome.lines()]))
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
