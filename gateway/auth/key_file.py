"""The API keys in force: those of the settings, and those of a file that is read again when it changes.

A gateway that was started with keys goes on asking for them, whatever happens to the file.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog

from gateway.auth.api_keys import Keyring, KeysInvalid, parse_entries, read_entries

POLL_S = 2.0
MAX_FILE_BYTES = 1 << 20


class KeyFile:
    """Holds the keyring; ``current`` is ``None`` where no keys are configured: then no key is asked for.

    The file is read again every two seconds, so that a key is added or withdrawn without a restart. What its content
    says is taken by entry: one that cannot be read is no key, and is logged by its number. A file that cannot be read
    leaves the keys as they were.

    Args:
        entries: of the settings, or empty.
        file: more entries, or None.

    Raises:
        KeysInvalid: at the start, an entry is wrong, the file cannot be read, or neither holds any entry.
    """

    def __init__(self, entries: str, file: Path | None) -> None:
        self._fixed = entries
        self._file = file
        self._log = structlog.get_logger("keys")
        self._seen = self._read() if file is not None else ""
        self.current: Keyring | None = None
        if entries or file is not None:
            self.current = Keyring(parse_entries(f"{entries}\n{self._seen}"))
            if not self.current.keys:
                raise KeysInvalid("there are settings for API keys, but no key in them")

    async def watch(self) -> None:
        """Follow the file, for ever; runs as a task of the application's lifespan."""
        while self._file is not None:
            await asyncio.sleep(POLL_S)
            await self.refresh()

    async def refresh(self) -> None:
        """Read the file again and put what it says in force."""
        try:
            text = await asyncio.to_thread(self._read)
        except KeysInvalid as fault:
            self._log.warning("keys stay as they were", reason=str(fault))
            return
        if text == self._seen:
            return
        self._seen = text
        keys, faults = read_entries(f"{self._fixed}\n{text}")
        self.current = Keyring(keys)
        for reason in faults:
            self._log.error("an entry of the key file is no key", reason=reason)
        self._log.info("keys changed", names=sorted({key.name for key in keys}))

    def _read(self) -> str:
        assert self._file is not None  # noqa: S101 - read only where there is one
        try:
            with self._file.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise KeysInvalid(f"the key file cannot be read ({error.strerror})") from None
        if len(data) > MAX_FILE_BYTES:
            raise KeysInvalid(f"the key file is over {MAX_FILE_BYTES} bytes")
        return data.decode("utf-8", "replace")
