"""``python -m scripts.export --model MODEL``: put a bundle into a model repository, unless it is there already.

With ``--into FOLDER`` it becomes a folder of its own among other bundles, whose name is the last line of the output.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from scripts.export import bundles
from scripts.export.device import DEVICES
from scripts.export.lock import exclusive
from scripts.export.order import FORMATS, PRECISIONS, TARGETS, Order, read_order
from scripts.export.refusal import ExportRefused
from scripts.export.resizing import resize
from scripts.export.sizing import Wish
from scripts.export.source import fetch

MOST = 256


def export_into(repository: Path, order: Order, *, force: bool = False) -> None:
    """Export an order into a repository; where the models are there already, only their configs are written.

    Args:
        repository: where to.
        order: what.
        force: export the models whatever is there.

    Raises:
        ExportRefused: it cannot be done, with the reason.
    """
    with exclusive(repository):
        found = None if force else order.found_in(repository)
        if found is None:
            _export_models(repository, order)
            found = order.found_in(repository)
        request = order.request()
        if found and request and found.wish != order.wish:
            resize(repository, request, found.measured, order.wish)
            print(f"export: {repository} has instances and threads as asked for now", flush=True)


def _export_models(repository: Path, order: Order) -> None:
    fetch(order.source)  # after this a hub model has a commit
    request = order.request() or order.request_for(order.source.id)
    # Read when torch is loaded: threads that wait for each other sleep, and leave the cores to other programs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from scripts.export.pipeline import export
    except ModuleNotFoundError as error:
        raise ExportRefused(
            f"the package {error.name} is missing: install the export's packages with `pip install '.[export]'`"
        ) from None
    try:
        export(order.source, request, repository)
    except OSError as error:
        raise ExportRefused(
            f"the bundle cannot be written to {repository} ({error.strerror or error}): make room, or give another "
            "MODEL_REPOSITORY"
        ) from None


def count(text: str) -> int:
    """Read a number of instances or threads.

    Raises:
        argparse.ArgumentTypeError: it is none from 0 to 256.
    """
    if text.isdecimal() and int(text) <= MOST:
        return int(text)
    raise argparse.ArgumentTypeError(f"“{text}” is no number from 0 to {MOST}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.export", description=__doc__)
    parser.add_argument("--model", default="demo", help="demo, a hub id, a folder, or random:ViT-B/32")
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS)
    parser.add_argument("--device", default="auto", choices=DEVICES)
    parser.add_argument(
        "--target", default="wheel", choices=TARGETS, help="the server: make serve's, or NVIDIA's image"
    )
    parser.add_argument("--format", default="torchscript", choices=FORMATS, dest="format_name")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--repository", type=Path, default=Path("model_repository"), help="the bundle's folder itself")
    where.add_argument("--into", type=Path, help="a folder of bundles")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--list", action="store_true", help="with --into: name the bundles that are there, newest first"
    )
    instead.add_argument("--remove", metavar="BUNDLE", help="with --into: remove one that nobody serves")
    parser.add_argument("--force", action="store_true", help="export even if the bundle is there")
    parser.add_argument("--instances", type=count, default=0, help="of the image model; 0 leaves it to the export")
    parser.add_argument("--text-instances", type=count, default=0, help="of the text model; likewise")
    parser.add_argument("--threads", type=count, default=0, help="of each instance; likewise")
    given = parser.parse_args(arguments)
    if given.into is None and (given.list or given.remove):
        parser.error("--list and --remove need --into")
    wish = Wish(given.instances, given.text_instances, given.threads)
    try:
        if given.list:
            print("\n".join(bundles.names(given.into)))
            return 0
        if given.remove:
            bundles.remove(given.into, given.remove)
            return 0
        order = read_order(
            given.model, given.precision, given.device, wish, target=given.target, format_name=given.format_name
        )
        if given.into is not None:
            name = bundles.add(given.into, order, export_into)
            print(
                f"export: to serve it, put BUNDLE={name} into .env and run `docker compose up -d`\n{name}", flush=True
            )
        elif not given.force and order.is_in(given.repository):
            print(
                f"export: {given.repository} holds {order.source.id} at {order.precision} for {order.device} already",
                flush=True,
            )
        else:
            export_into(given.repository, order, force=given.force)
    except ExportRefused as refused:
        print(f"export: {refused}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("export: interrupted, the bundle that was there is unchanged", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
