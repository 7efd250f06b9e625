"""What is still to be told to webhooks, written in the transaction of what it tells."""

from __future__ import annotations

from typing import Any

from gateway.store.database import Transaction


async def enqueue(tx: Transaction, event_type: str, data: dict[str, Any], order_key: str) -> None:
    """Put an event into the outbox.

    Args:
        tx: of what the event tells.
        event_type: such as ``review.verdict``.
        data: of the event, JSON values.
        order_key: events of one key are delivered in order.
    """
