"""``clip-gateway policies carry``: what is in force for one bundle, as drafts for another on the same database."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import click
import httpx2

from gateway.cli.connection import Connection, connection_options
from gateway.cli.policies import DONE, ERROR, Refused, answered, connected, policies

SHORTEST = 6  # digits of a bundle's id


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of one policy or head.

    Attributes:
        kind: ``policy`` or ``classifier``.
        name: of it.
        from_version: in force for the bundle that it comes from.
        version: for the other bundle; None where it was not carried.
        new: whether that version was made now.
        active: whether it is in force.
        reason: why it was not carried.
    """

    kind: str
    name: str
    from_version: int
    version: int | None = None
    new: bool = False
    active: bool = False
    reason: str | None = None

    @property
    def line(self) -> str:
        """For people."""
        if self.version is None:
            return f"{self.kind} {self.name}@{self.from_version}: not carried: {self.reason}"
        state = "in force" if self.active else "a draft"
        made = "carried as" if self.new else "is there already as"
        return f"{self.kind} {self.name}@{self.from_version}: {made} version {self.version}, {state}"


def carry(
    client: httpx2.Client, from_bundle: str, to_bundle: str, names: Sequence[str], *, activate: bool, as_json: bool
) -> int:
    """Carry policies to the bundle of a gateway, and tell what became of each; return the exit code.

    Raises:
        Refused: the gateway serves another bundle, knows none of that name, or one of the policies is not in force.
    """
    served = answered(client.get("/v1/models")).json()["data"][0]["bundle_id"]
    if served != to_bundle and not (len(to_bundle) >= SHORTEST and served.startswith(to_bundle)):
        raise Refused(f"{client.base_url} serves bundle {served}, not {to_bundle}: ask a gateway with that bundle")
    there = {"bundle_id": from_bundle}
    rows = answered(client.get("/v1/policies", params=there)).json()["data"]
    in_force = {row["name"]: row["version"] for row in rows if row["active"]}
    if missing := [name for name in names if name not in in_force]:
        raise Refused(f"not in force for bundle {from_bundle}: {', '.join(missing)}")
    done = [_carried(client, name, in_force[name], from_bundle, activate=activate) for name in names or in_force]
    if not names:
        done += _heads(answered(client.get("/v1/classifiers", params=there)).json()["data"])
    if as_json:
        click.echo(json.dumps([asdict(one) for one in done], ensure_ascii=False, indent=2))
    else:
        for one in done:
            click.echo(one.line, err=one.version is None)
    return ERROR if any(one.kind == "policy" and one.version is None for one in done) else DONE


def _carried(client: httpx2.Client, name: str, version: int, from_bundle: str, *, activate: bool) -> Carried:
    asked = {"from_bundle": from_bundle, "activate": activate}
    response = client.post(f"/v1/policies/{name}/carry", json=asked)
    try:
        made = answered(response).json()
    except Refused as refused:
        if response.status_code in {httpx2.codes.CONFLICT, httpx2.codes.UNPROCESSABLE_CONTENT}:  # of this one alone
            return Carried("policy", name, version, reason=str(response.json()["detail"]))
        raise Refused(f"policy {name}: {refused}") from None
    new = response.status_code == httpx2.codes.CREATED
    return Carried("policy", name, version, int(made["version"]), new, bool(made["active"]))


def _heads(classifiers: Sequence[dict[str, object]]) -> Iterator[Carried]:
    """Yield the trained heads in force: words need no carrying, since they are in force for every bundle."""
    for row in classifiers:
        if row["active"] and row.get("kind") == "head":
            reason = "a head fits the model that it was trained on; train it again"
            yield Carried("classifier", str(row["name"]), int(str(row["version"])), reason=reason)


@policies.command("carry")
@click.option("--from-bundle", required=True, help="What is in force for this one; the first 6 digits or more will do.")
@click.option("--to-bundle", required=True, help="That the gateway serves; likewise.")
@click.option("--activate", is_flag=True, help="Put in force what is new, though no threshold is measured on it.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, a row for each.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@connection_options
@click.pass_context
def carry_command(
    ctx: click.Context,
    *,
    from_bundle: str,
    to_bundle: str,
    activate: bool,
    as_json: bool,
    names: tuple[str, ...],
    address: str,
    key: str | None,
) -> None:
    """Make drafts of another bundle's policies, by name or all, for the bundle that the gateway serves.

    Both bundles are on one database. Rules, labels and prompts stay as they are; thresholds too, marked as not measured
    on this bundle. Carried again, nothing new is made. Trained heads are not carried: train them again.
    """
    wanted = list(dict.fromkeys(names))
    ctx.exit(
        connected(
            Connection(address, key),
            lambda client: carry(client, from_bundle, to_bundle, wanted, activate=activate, as_json=as_json),
        )
    )
