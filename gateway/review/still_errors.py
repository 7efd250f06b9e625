"""What can go wrong with kept stills; here, so that who catches it needs neither of the two libraries behind them."""

from __future__ import annotations


class ReviewImagesInvalid(Exception):
    """Stills cannot be kept with these settings; the text says which, and what to do."""


class StillStoreAway(Exception):
    """The store failed or took too long; the text says how, for the log."""


class NotOpened(Exception):
    """No key opens these bytes as what they are said to be."""
