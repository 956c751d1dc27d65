"""What is kept under the installation's own key: secrets that must be read again, and hashes that nobody can guess at.

Whoever has the database alone learns neither authenticators' secrets nor which names and addresses were tried.
"""

from __future__ import annotations

import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE_BYTES = 12  # NIST SP 800-38D, 8.2: 96 bits; random ones are safe for 2^32 messages of a key
_DIGEST_BYTES = 16


class Vault:
    """Encrypts and hashes under one key, with a key of its own for each purpose (HKDF, RFC 5869).

    Args:
        key: 16 bytes or more, the same in all replicas. With another key what was sealed cannot be read.
    """

    def __init__(self, key: bytes) -> None:
        self._sealing = AESGCM(_derived(key, b"rookery seal"))
        self._hashing = _derived(key, b"rookery hash")

    def digest(self, purpose: str, *parts: str | int) -> bytes:
        """16 bytes that tell equal texts from others, for one purpose."""
        text = "\0".join([purpose, *map(str, parts)])
        return hmac.digest(self._hashing, text.encode(), "sha256")[:_DIGEST_BYTES]

    def seal(self, secret: bytes, owner_id: int) -> bytes:
        """A secret that `open` gives back, for the same owner only."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._sealing.encrypt(nonce, secret, str(owner_id).encode())

    def open(self, sealed: bytes, owner_id: int) -> bytes:
        """The secret. Raises ValueError for another owner's, and for one that was sealed under another key."""
        try:
            return self._sealing.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], str(owner_id).encode())
        except InvalidTag:
            raise ValueError("this was not sealed with the key of this installation for this owner") from None


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(key)
