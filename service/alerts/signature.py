"""Signatures of deliveries as Standard Webhooks wants them: HMAC-SHA256 over id, time and body. Pure."""

import hmac
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import Final

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what secrets begin with
KEY_BYTES: Final = 32


def secret_text(key: bytes) -> str:
    """Return a key as receivers' libraries take it."""
    return SECRET_PREFIX + b64encode(key).decode("ascii")


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of `webhook-signature`; `timestamp` in seconds, as sent in `webhook-timestamp`."""
    key = b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    signed = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{b64encode(hmac.digest(key, signed, sha256)).decode('ascii')}"
