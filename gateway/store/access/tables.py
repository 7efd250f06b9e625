"""The tables of access: sessions, when keys were last used, which gateways run."""

from __future__ import annotations
