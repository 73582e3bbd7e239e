"""Where a charge is totalled: its 15-minute bucket and the digest of its core key. Pure."""

from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b

BUCKET_SECONDS = 900

# Sessions, end users, agents and tags stay out: a key with them would be as long as the charges themselves.
CORE_KEY = (
    "organization",
    "team",
    "project",
    "user",
    "api_key",
    "requested_model",
    "deployment",
    "served_model",
    "provider",
    "call_type",
    "price_state",
    "service_tier",
    "status",
)


def bucket_of(instant: datetime) -> datetime:
    """Return the start of the 15-minute bucket (UTC) the instant lies in."""
    return _bucket(int(instant.timestamp()) // BUCKET_SECONDS)


@lru_cache(maxsize=4_096)
def _bucket(number: int) -> datetime:
    return datetime.fromtimestamp(number * BUCKET_SECONDS, UTC)


@lru_cache(maxsize=16_384)
def core_key_digest(values: tuple[str | None, ...]) -> bytes:
    """Return the 16-byte digest of the values of CORE_KEY; absent differs from empty, lengths keep values apart."""
    digest = blake2b(digest_size=16)
    for value in values:
        encoded = b"" if value is None else value.encode("utf-8", "surrogatepass")
        digest.update(b"-" if value is None else b"%d:" % len(encoded))
        digest.update(encoded)
    return digest.digest()
