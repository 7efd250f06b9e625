"""``clip-gateway policies``: classifiers and policies as YAML files, in a team's git: out of a gateway, and into one.

The folder holds classifiers/NAME.yaml and policies/NAME.yaml, each the body that the API takes. What is in force is
exported; a file that already says the same is left as it is, with its comments. An import validates every file before
it writes anything, shows what differs, saves classifiers first and then policies, and makes each current at once. A
policy is saved again also when only a classifier that it names has changed, or the model, so that it pins the present
ones. Each write names the version that was compared with (If-Match): an edit in between is reported, not overwritten.
What only the gateway has is named and left alone. With API keys, an import needs the role manage, an export read.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import httpx2
import yaml
from pydantic import ValidationError

from gateway.cli.connection import Connection, connection_options
from gateway.errors import InvalidRequest
from gateway.moderation.classifiers import Classifier, check_name, split_reference
from gateway.moderation.heads import HeadClassifier, classifier_form
from gateway.moderation.policy import Policy

DONE, DIFFERS, ERROR = 0, 1, 2
KINDS = ("classifiers", "policies")
SHOWN_CHARS = 200  # of a line of a difference: a head's numbers are one line
TIMEOUT_S = 150.0  # a save computes the text vectors of every new prompt


class Refused(Exception):
    """Something that cannot be done; the text is for people."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A classifier or policy of a folder or of a gateway.

    Attributes:
        plural: ``classifiers`` or ``policies``.
        name: of the resource.
        body: what the API takes, with every default in place.
        version: in force, of a gateway; None of a folder.
        pins: of a gateway's policy: classifier → version.
        bundle_id: of a gateway's policy.
    """

    plural: str
    name: str
    body: dict[str, Any]
    version: int | None = None
    pins: dict[str, int] | None = None
    bundle_id: str | None = None

    @property
    def path(self) -> str:
        """Of the file within a folder."""
        return f"{self.plural}/{self.name}.yaml"


Entries = dict[tuple[str, str], Entry]


def from_folder(folder: Path) -> Entries:
    """Read and validate every file.

    Raises:
        Refused: one cannot be used; it is named.
    """
    found: Entries = {}
    for plural in KINDS:
        for path in sorted((folder / plural).glob("*.yaml")):
            try:
                fields = yaml.safe_load(path.read_text(encoding="utf-8"))
                made = form_of(plural, fields).model_validate(fields)
                name = check_name(path.stem)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"])
                raise Refused(f"{path}: field “{where}”: {first['msg']}") from None
            except (OSError, UnicodeDecodeError, yaml.YAMLError, InvalidRequest) as error:
                raise Refused(f"{path}: {error}") from None
            found[plural, name] = Entry(plural, name, made.model_dump(mode="json"))
    return found


def from_gateway(client: httpx2.Client) -> Entries:
    """Read everything in force.

    Raises:
        Refused: the gateway says no, or it runs a version that knows other fields.
    """
    found: Entries = {}
    for plural in KINDS:
        for row in answered(client.get(f"/v1/{plural}")).json()["data"]:
            if not row["active"]:
                continue  # drafts only
            model = form_of(plural, row)
            whole = row
            if row.get("kind") == "head":  # a list leaves its numbers out
                one = client.get(f"/v1/{plural}/{row['name']}", params={"version": row["version"]})
                whole = answered(one).json()
            fields = {name: value for name, value in whole.items() if name in model.model_fields}
            try:
                body = model.model_validate(fields).model_dump(mode="json")
            except ValidationError as error:
                raise Refused(f"{plural}/{row.get('name')} is not of a form this version reads: {error}") from None
            entry = Entry(plural, row["name"], body, row["version"], row.get("classifiers"), row.get("bundle_id"))
            found[plural, entry.name] = entry
    return found


def form_of(plural: str, fields: object) -> type[Classifier | HeadClassifier | Policy]:
    """Return the model of a body.

    Raises:
        InvalidRequest: a classifier of a kind that there is not.
    """
    if plural == "policies":
        return Policy
    return classifier_form(fields if isinstance(fields, dict) else {})


def answered(response: httpx2.Response) -> httpx2.Response:
    """Return a good response.

    Raises:
        Refused: it is not one.
    """
    if response.is_success:
        return response
    try:
        problem = response.json()
        said = f"{problem['detail']} ({problem['code']})"
    except (ValueError, KeyError, TypeError):
        said = "no reason given"
    raise Refused(f"{response.request.method} {response.request.url.path}: {response.status_code}: {said}")


def written(body: dict[str, Any]) -> str:
    """Return a body as YAML."""
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120)


def filled(mine: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    """Return a file's body with what it leaves to the model's defaults taken from what the gateway saved for it."""
    out = dict(mine)
    if "mode" in mine and mine["mode"] == theirs.get("mode"):
        out["templates"] = mine["templates"] or theirs["templates"]
        there = {entry["label"]: entry for entry in theirs["labels"]}
        out["labels"] = [
            {
                **entry,
                "prompts": entry["prompts"] or [entry["label"]],
                "negatives": entry["negatives"] or there.get(entry["label"], entry)["negatives"],
            }
            for entry in mine["labels"]
        ]
    return out


def difference(before: dict[str, Any] | None, after: dict[str, Any], path: str) -> list[str]:
    """Return the lines of a unified diff; none where both say the same."""
    old = written(before).splitlines() if before is not None else []
    shown = "/dev/null" if before is None else f"a/{path}"
    lines = difflib.unified_diff(old, written(after).splitlines(), shown, f"b/{path}", lineterm="")
    return [line if len(line) <= SHOWN_CHARS else f"{line[:SHOWN_CHARS]}…" for line in lines]


def export(client: httpx2.Client, folder: Path, *, dry_run: bool) -> int:
    """Write what is in force into the folder; return the exit code."""
    there = from_gateway(client)
    here = from_folder(folder)
    changed = False
    for key, entry in there.items():
        known = here.get(key)
        lines = difference(filled(known.body, entry.body) if known else None, entry.body, entry.path)
        if lines:
            changed = True
            click.echo("\n".join(lines))
            if not dry_run:
                target = folder / entry.path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(written(entry.body), encoding="utf-8")
    for key in here.keys() - there.keys():
        click.echo(f"only in the folder: {here[key].path}")
    return DIFFERS if changed and dry_run else DONE


def import_(client: httpx2.Client, folder: Path, *, dry_run: bool) -> int:
    """Save what differs; return the exit code."""
    here = from_folder(folder)
    if not here:
        raise Refused(f"{folder} holds no classifiers/*.yaml and no policies/*.yaml")
    there = from_gateway(client)
    bundle_id = answered(client.get("/v1/models")).json()["data"][0]["bundle_id"]
    versions = {name: entry.version for (plural, name), entry in there.items() if plural == "classifiers"}
    moved: set[str] = set()
    changed = False
    for (plural, name), entry in here.items():
        known = there.get((plural, name))
        body = filled(entry.body, known.body) if known else entry.body
        lines = difference(known.body if known else None, body, entry.path)
        if not lines and known and plural == "policies":
            lines = list(stale_pins(known, versions, moved, bundle_id))
        if not lines:
            continue
        changed = True
        click.echo("\n".join(lines))
        if plural == "classifiers":
            moved.add(name)
        if not dry_run:
            version = put(client, entry, known)
            click.echo(f"saved {plural}/{name} as version {version}")
    for key in there.keys() - here.keys():
        click.echo(f"only on the gateway: {there[key].path}")
    return DIFFERS if changed and dry_run else DONE


def stale_pins(policy: Entry, versions: dict[str, int | None], moved: set[str], bundle_id: str) -> Iterator[str]:
    """Yield why a policy whose body is the same must be saved again."""
    if policy.bundle_id != bundle_id:
        yield f"{policy.path}: saved for bundle {policy.bundle_id}, the gateway runs {bundle_id}"
    references = [rule["classifier"] for rule in policy.body["rules"]] + policy.body["attributes"]
    for reference in dict.fromkeys(references):
        name, number = split_reference(reference)
        pinned = (policy.pins or {}).get(name)
        if number is None and (name in moved or versions.get(name) != pinned):
            yield f"{policy.path}: pins {name}@{pinned}, which is not the newest in force"


def put(client: httpx2.Client, entry: Entry, known: Entry | None) -> int:
    """Save one; return its version.

    Raises:
        Refused: it was changed since it was compared, or the gateway does not take it.
    """
    address = f"/v1/{entry.plural}/{entry.name}"
    headers = {}
    if known is not None:
        rows = answered(client.get(f"{address}/versions")).json()["data"]
        if [row["version"] for row in rows if row["active"]] != [known.version]:
            raise Refused(f"{entry.path}: changed on the gateway meanwhile; compare again")
        latest = answered(client.get(address, params={"version": rows[0]["version"]}))
        headers["if-match"] = latest.headers["etag"]
    response = client.put(address, json=entry.body, headers=headers)
    if response.status_code == httpx2.codes.PRECONDITION_FAILED:
        raise Refused(f"{entry.path}: changed on the gateway meanwhile; compare again")
    return int(answered(response).json()["version"])


@click.group()
def policies() -> None:
    """Keep classifiers and policies as YAML files, list those in force, and carry them to another model.

    Exit code: 0 done, or nothing differs; 1 with --dry-run, something differs; 2 an error, told on standard error (what
    was saved before it stays saved).
    """


def folder_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of an export or import."""
    folder = click.option("--folder", type=click.Path(path_type=Path, file_okay=False), required=True)
    dry_run = click.option("--dry-run", is_flag=True, help="Show what would change, change nothing.")
    return folder(dry_run(connection_options(command)))


@policies.command("export")
@folder_options
@click.pass_context
def export_command(ctx: click.Context, *, folder: Path, dry_run: bool, address: str, key: str | None) -> None:
    """Write what is in force on the gateway into a folder."""
    ctx.exit(connected(Connection(address, key), lambda client: export(client, folder, dry_run=dry_run)))


@policies.command("import")
@folder_options
@click.pass_context
def import_command(ctx: click.Context, *, folder: Path, dry_run: bool, address: str, key: str | None) -> None:
    """Save what a folder holds, and the gateway does not say already."""
    ctx.exit(connected(Connection(address, key), lambda client: import_(client, folder, dry_run=dry_run)))


@policies.command("list")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="As JSON, with every field.")
@click.pass_context
def list_command(ctx: click.Context, *, address: str, key: str | None, as_json: bool) -> None:
    """List the classifiers and policies in force."""

    def work(client: httpx2.Client) -> int:
        there = from_gateway(client)
        if as_json:
            rows = [
                {"kind": kind, "name": name, "version": entry.version, **entry.body}
                for (kind, name), entry in there.items()
            ]
            click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        else:
            for (kind, name), entry in there.items():
                note = "  thresholds not measured on this model" if entry.body.get("carried_from") else ""
                click.echo(f"{kind:<12} {name}@{entry.version}{note}")
        return DONE

    ctx.exit(connected(Connection(address, key), work))


def connected(connection: Connection, work: Callable[[httpx2.Client], int]) -> int:
    """Do work with a client of the gateway; return the exit code, and say what went wrong."""
    with httpx2.Client(base_url=connection.address, headers=connection.headers, timeout=TIMEOUT_S) as client:
        return told(client, work)


def told(client: httpx2.Client, work: Callable[[httpx2.Client], int]) -> int:
    """Do work; return its exit code, or ``ERROR`` and say why on standard error."""
    try:
        return work(client)
    except Refused as error:
        click.echo(str(error), err=True)
    except httpx2.HTTPError as error:
        click.echo(f"{client.base_url} cannot be reached: {error}", err=True)
    except OSError as error:
        click.echo(f"{error.filename}: {error.strerror}", err=True)
    except (ValueError, KeyError, TypeError):
        click.echo(f"{client.base_url} does not answer as a gateway does", err=True)
    return ERROR
