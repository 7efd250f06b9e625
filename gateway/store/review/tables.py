"""The tables of review: cases, kept images, legal holds, what is still to be told to webhooks."""

from __future__ import annotations
