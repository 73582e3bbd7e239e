"""Wire shapes of the answers to gateways and to keys asking about themselves."""

from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from service.checks.schemas import WindowView


class StoppedError(msgspec.Struct, frozen=True, kw_only=True):
    """The shape clients of gateways key on. `code`: the status as text."""

    message: str
    type: str
    param: None = None
    code: str


class StoppedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What stops a call, made for the end client; `tallygate` says as much as the tenant's `deny_detail` allows."""

    error: StoppedError
    tallygate: dict[str, Any]


class GuardrailAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to LiteLLM."""

    action: Literal["NONE", "BLOCKED"]
    blocked_reason: str | UnsetType = UNSET


class PortkeyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to Portkey; `data` says why."""

    verdict: bool
    data: dict[str, Any]


class QuotaBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A budget every call of the key counts in. Figures of budgets that are not the key's own may be kept back."""

    name: str
    is_own: bool
    resets_at: datetime | None
    window: WindowView
    limit_usd: str | UnsetType = UNSET
    posted_usd: str | UnsetType | None = UNSET
    held_usd: str | UnsetType | None = UNSET
    available_usd: str | UnsetType | None = UNSET


class QuotaAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may still spend. `degraded`: the counters cannot be asked at the moment."""

    api_key: str
    alias: str | None
    degraded: bool
    budgets: list[QuotaBudget]
