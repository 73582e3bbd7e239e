"""A webhook: where alerts of a tenant are sent, which of them, and in what form. Pure values."""

from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

_DEFAULT_PORTS = {"https": 443, "http": 80}


class WebhookTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What may change of a webhook. `events` and `budgets` (slugs): none = all; `template` None = the document."""

    url: str
    description: str = ""
    events: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    template: Any = None
    escapes_markup: bool = False
    is_enabled: bool = True

    @property
    def host(self) -> str:
        """The machine and port that are asked; of an address that was judged."""
        parts = urlsplit(self.url)
        return f"{(parts.hostname or '').lower()}:{parts.port or _DEFAULT_PORTS[parts.scheme]}"


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as it is stored, without its secret."""

    tenant_id: str
    webhook_id: UUID
    terms: WebhookTerms
    disabled_reason: str | None
    created_at: datetime
