"""The settings of review, its console, webhooks and jobs; ``settings.py`` has the others."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings


class ConsoleSettings(BaseSettings):
    """What people who review and tune work with."""

    console: bool = Field(default=True, description="Serve /console, the pages for people.")
