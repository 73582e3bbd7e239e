"""What a denied end client is told: the shape clients of gateways key on, as much detail as the tenant allows, headers.

`summary` (the default) gives figures of budgets on the client's own key; of others the name and the reset only.
"""

from datetime import datetime
from math import ceil
from typing import Any

import msgspec

from service.access.settings import TenantSettings
from service.checks.answer import budget_standing, check_answer, format_micro_usd
from service.checks.outcome import Denied, Standing
from service.checks.schemas import DeniedError

_KEY_BLOCKED_STATUS = 403


class DenialResponse(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer that stops a call."""

    status: int
    headers: dict[str, str]
    body: bytes


def denial_response(denied: Denied, now: datetime) -> DenialResponse:
    """Return the answer for the end client."""
    settings = denied.explanation.settings
    status = _KEY_BLOCKED_STATUS if denied.code == "key_blocked" else settings.deny_status
    document = {
        "error": DeniedError(
            message=_message(denied, settings),
            type="key_blocked" if denied.code == "key_blocked" else "budget_exceeded",
            code=str(status),
        ),
        "tallygate": _detail(denied, settings),
    }
    return DenialResponse(status=status, headers=_headers(denied, settings, now), body=msgspec.json.encode(document))


def _message(denied: Denied, settings: TenantSettings) -> str:
    if denied.code == "key_blocked":
        return "This key is blocked."
    if denied.code == "unpriced_model":
        return "Budget has been exceeded! The price of this model is not known."
    if denied.code == "counters_unavailable":
        return "Budget has been exceeded! What was spent is not known at the moment."
    if denied.code == "too_many_budgets":
        return "Budget has been exceeded! More budgets apply to this call than can be checked."
    first = next(standing for standing in denied.denied_by if standing.reason == "budget_exceeded")
    if not _may_show_figures(first, settings):
        return "Budget has been exceeded!"
    current = format_micro_usd((first.posted_micro_usd or 0) + (first.held_micro_usd or 0))
    return f"Budget has been exceeded! Current cost: {current}, Max budget: {format_micro_usd(first.limit_micro_usd)}"


def _detail(denied: Denied, settings: TenantSettings) -> Any:
    match settings.deny_detail:
        case "none":
            return {"code": denied.code}
        case "full":
            return check_answer(denied)
        case "summary":
            return {"code": denied.code, "denied_by": [_summary(each, settings) for each in denied.denied_by]}


def _summary(standing: Standing, settings: TenantSettings) -> Any:
    if _may_show_figures(standing, settings):
        return budget_standing(standing)
    return {"name": standing.counter.budget.name, "resets_at": standing.counter.window.end}


def _may_show_figures(standing: Standing, settings: TenantSettings) -> bool:
    if settings.deny_detail == "full":
        return True
    is_own_key = any(
        condition.dimension == "api_key" and condition.kind in {"any_of", "each"}
        for condition in standing.counter.budget.match
    )
    return settings.deny_detail == "summary" and is_own_key


def _headers(denied: Denied, settings: TenantSettings, now: datetime) -> dict[str, str]:
    exceeded = [standing for standing in denied.denied_by if standing.reason == "budget_exceeded"]
    if not exceeded:
        return {}
    headers = {}
    waits = [_seconds_to_wait(standing, denied, now) for standing in exceeded]
    known_waits = [wait for wait in waits if wait is not None]
    if len(known_waits) == len(waits):
        headers["retry-after"] = str(max(known_waits))
    shown = next((standing for standing in exceeded if _may_show_figures(standing, settings)), None)
    if shown is not None and (shown_left := shown.available_micro_usd) is not None:
        headers |= _rate_limit(shown, max(shown_left, 0), now)
    return headers


def _seconds_to_wait(standing: Standing, denied: Denied, now: datetime) -> int | None:
    """Return 1 if only holds in flight are in the way, else the time to the end of the window; None = never."""
    amount = max(denied.explanation.appraisal.amount_micro_usd, 1)
    if standing.limit_micro_usd and (standing.posted_micro_usd or 0) + amount <= standing.limit_micro_usd:
        return 1
    end = standing.counter.window.end
    return None if end is None else max(ceil((end - now).total_seconds()), 1)


def _rate_limit(standing: Standing, left: int, now: datetime) -> dict[str, str]:
    """Return the fields of the IETF draft, in whole micro-USD."""
    window = standing.counter.window
    if window.end is None:
        return {"ratelimit-policy": f'"budget";q={standing.limit_micro_usd}', "ratelimit": f'"budget";r={left}'}
    length = ceil((window.end - window.start).total_seconds())
    return {
        "ratelimit-policy": f'"budget";q={standing.limit_micro_usd};w={length}',
        "ratelimit": f'"budget";r={left};t={max(ceil((window.end - now).total_seconds()), 0)}',
    }
