"""Encryption of what is kept of images, with keys of the settings, so that files alone show nothing.

AES-256 in GCM (NIST SP 800-38D) by ``cryptography``. Whose bytes they are is bound to them as associated data: bytes of
one decision or still do not open as those of another. With random nonces one key is good for 2^32 stills (8.3 there).
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.review.still_errors import NotOpened, ReviewImagesInvalid

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_VERSION: Final = b"\x01"


class Sealer:
    """Encrypts with the first key, and decrypts with any.

    Args:
        keys: base64 of 32 bytes each, comma-separated.

    Raises:
        ReviewImagesInvalid: there is none, or one is something else.
    """

    def __init__(self, keys: str) -> None:
        parts = [part.strip() for part in keys.split(",") if part.strip()]
        try:
            read = [base64.b64decode(part, validate=True) for part in parts]
        except (binascii.Error, ValueError):
            read = []
        if not read or any(len(key) != KEY_BYTES for key in read):
            raise ReviewImagesInvalid(
                "REVIEW_IMAGES keeps pictures only encrypted: set REVIEW_IMAGE_KEY to the base64 of 32 random bytes "
                "(openssl rand -base64 32), or to several of them with commas, the one to encrypt with first"
            )
        self._ciphers = tuple(AESGCM(key) for key in read)

    def seal(self, data: bytes, name: str) -> bytes:
        """Return data encrypted; ``name`` says whose it is."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._ciphers[0].encrypt(nonce, data, name.encode())

    def open(self, sealed: bytes, name: str) -> bytes:
        """Return what was sealed under this name.

        Raises:
            NotOpened: it was changed, is another one's, or was sealed with a key that is not here.
        """
        nonce, text = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        for cipher in self._ciphers if sealed[:1] == _VERSION else ():
            try:
                return cipher.decrypt(nonce, text, name.encode())
            except (InvalidTag, ValueError):
                continue
        raise NotOpened
