"""Identifiers: UUIDs of version 7, so that new rows of an index lie side by side."""

import secrets
from uuid import UUID

import uuid_utils
import uuid_utils.compat


def new_id() -> UUID:
    """Return a new time-ordered UUID."""
    return uuid_utils.compat.uuid7()


def new_id_text() -> str:
    """Return the 32 hex digits of a new id: a tenth of the time of making the object first."""
    return uuid_utils.uuid7().hex


def new_secret(prefix: str) -> str:
    """Return an unguessable token of 256 bits with a readable prefix."""
    return prefix + secrets.token_urlsafe(32)


def random_bytes(count: int) -> bytes:
    """Return so many unguessable bytes."""
    return secrets.token_bytes(count)
