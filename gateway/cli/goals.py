"""The options of goals that thresholds are chosen for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
F = TypeVar("F", bound=Callable[..., Any])


def prevalence_of(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, float]:
    """Return the shares of traffic by category."""
    try:
        return {name: float(share) for name, share in (entry.rsplit("=", 1) for entry in given)}
    except ValueError:
        raise click.BadParameter("give CATEGORY=SHARE: gore=0.001") from None


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
            callback=prevalence_of,
            metavar="CATEGORY=SHARE",
            help="Share of a category in your traffic, as you know it: gore=0.001. Several times.",
        ),
    ]
    for decorator in reversed(decorators):
        command = decorator(command)
    return command
