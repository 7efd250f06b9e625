"""The options of goals that thresholds are chosen for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
F = TypeVar("F", bound=Callable[..., Any])


def parsed_prevalence(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, float]:
    """Return category → share of traffic."""
    found = {}
    for entry in ",".join(given).split(","):
        name, _equals, share = entry.rpartition("=")
        if not entry.strip():
            continue
        try:
            found[name.strip()] = float(share)
        except ValueError:
            raise click.BadParameter(f"“{entry}” is no CATEGORY=SHARE; gore=0.002 is") from None
        if not 0 <= found[name.strip()] < 1:
            raise click.BadParameter(f"“{entry}” is no share, which is 0 or more and below 1; gore=0.002 is")
    return found


def goal_options(command: F) -> F:
    """Add the goals that thresholds may be chosen for."""
    decorators = [
        click.option("--block-fpr", type=SHARE, help="Of harmless images, blocked at most: 0.001."),
        click.option("--review-share", type=SHARE, help="Of all images, sent to review at most; needs --prevalence."),
        click.option("--catch", type=SHARE, help="Of each category's images, reviewed or blocked at least: 0.99."),
        click.option("--confidence", type=SHARE, default=0.95, show_default=True, help="Of these promises."),
        click.option(
            "--prevalence",
            multiple=True,
            callback=parsed_prevalence,
            metavar="CATEGORY=SHARE",
            help="How common categories are in your traffic: gore=0.002,nudity=0.01. For --review-share.",
        ),
    ]
    for decorator in reversed(decorators):
        command = decorator(command)
    return command
