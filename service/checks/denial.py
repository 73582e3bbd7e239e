"""What a denied end client is told: the shape clients of gateways key on, as much detail as the tenant allows, headers.

`summary` (the default) gives figures of budgets on the client's own key; of others the name and the reset only. The
status is the tenant's choice, but 403 for a blocked key, and 429 where nothing but holds of calls under way is in the
way: that is worth another try a second later.
"""

from datetime import datetime
from math import ceil
from typing import Any, Literal

import msgspec

from service.access.settings import TenantSettings
from service.checks.answer import budget_standing, check_answer, format_micro_usd
from service.checks.outcome import ClosedRoute, Denied, Explanation, Standing
from service.checks.schemas import DeniedError

_KEY_BLOCKED_STATUS = 403
_TRY_AGAIN_STATUS = 429


class DenialResponse(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer that stops a call; `error_type` and `message` are in the body, too."""

    status: int
    error_type: Literal["budget_exceeded", "key_blocked"]
    message: str
    headers: dict[str, str]
    body: bytes


def denial_response(denied: Denied, now: datetime) -> DenialResponse:
    """Return the answer for the end client."""
    settings = denied.explanation.settings
    status, message = _status(denied, settings), _message(denied, settings)
    error_type: Literal["budget_exceeded", "key_blocked"] = (
        "key_blocked" if denied.code == "key_blocked" else "budget_exceeded"
    )
    document = {
        "error": DeniedError(message=message, type=error_type, code=str(status)),
        "tallygate": _detail(denied, settings),
    }
    return DenialResponse(
        status=status,
        error_type=error_type,
        message=message,
        headers=_headers(denied, settings, now),
        body=msgspec.json.encode(document),
    )


def rate_limit_headers(explanation: Explanation, now: datetime) -> dict[str, str]:
    """Return the fields of the IETF draft for the budget with the least left of those the client may see."""
    known = [
        (left, standing)
        for standing in explanation.standings
        if standing.enforces
        and not standing.is_aside
        and (left := standing.available_micro_usd) is not None
        and may_show_figures(standing, explanation.settings)
    ]
    if not known:
        return {}
    left, tightest = min(known, key=lambda each: each[0])
    return _rate_limit(tightest, max(left, 0), now)


def _status(denied: Denied, settings: TenantSettings) -> int:
    if denied.code == "key_blocked":
        return _KEY_BLOCKED_STATUS
    return _TRY_AGAIN_STATUS if any(map(_opens_soon, denied.closed)) else settings.deny_status


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
    if not may_show_figures(first, settings):
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
    if may_show_figures(standing, settings):
        return budget_standing(standing)
    return {"name": standing.counter.budget.name, "resets_at": standing.resets_at}


def may_show_figures(standing: Standing, settings: TenantSettings) -> bool:
    """Tell whether the client may see the figures of a budget."""
    return settings.deny_detail == "full" or (settings.deny_detail == "summary" and is_of_own_key(standing))


def is_of_own_key(standing: Standing) -> bool:
    """Tell whether a budget is one on the client's key."""
    return any(
        condition.dimension == "api_key" and condition.kind in {"any_of", "each"}
        for condition in standing.counter.budget.match
    )


def _headers(denied: Denied, settings: TenantSettings, now: datetime) -> dict[str, str]:
    headers = {}
    waits = [wait for route in denied.closed if (wait := _seconds_until_open(route, now)) is not None]
    if waits:
        headers["retry-after"] = str(min(waits))
    exceeded = [standing for standing in denied.denied_by if standing.reason == "budget_exceeded"]
    shown = next((standing for standing in exceeded if may_show_figures(standing, settings)), None)
    if shown is not None and (shown_left := shown.available_micro_usd) is not None:
        headers |= _rate_limit(shown, max(shown_left, 0), now)
    return headers


def _opens_soon(route: ClosedRoute) -> bool:
    """Tell whether the call could go this way if the calls under way ended now."""
    return bool(route.denied_by) and all(_is_passing(standing, route) for standing in route.denied_by)


def _seconds_until_open(route: ClosedRoute, now: datetime) -> int | None:
    """Return when the last of the exhausted budgets in the way has room again; None = never, or none is exhausted."""
    exceeded = [standing for standing in route.denied_by if standing.reason == "budget_exceeded"]
    waits = [_seconds_to_wait(standing, route, now) for standing in exceeded]
    known = [wait for wait in waits if wait is not None]
    return max(known) if known and len(known) == len(waits) else None


def _seconds_to_wait(standing: Standing, route: ClosedRoute, now: datetime) -> int | None:
    """Return 1 if only holds in flight are in the way, else the time until it resets; None = never."""
    if _is_passing(standing, route):
        return 1
    end = standing.resets_at
    return None if end is None else max(ceil((end - now).total_seconds()), 1)


def _is_passing(standing: Standing, route: ClosedRoute) -> bool:
    """Tell whether the call would fit if the calls under way ended now."""
    if standing.reason != "budget_exceeded" or not standing.limit_micro_usd:
        return False
    return (standing.posted_micro_usd or 0) + max(route.amount_micro_usd, 1) <= standing.limit_micro_usd


def _rate_limit(standing: Standing, left: int, now: datetime) -> dict[str, str]:
    """Return the fields of the IETF draft, in whole micro-USD."""
    window, resets_at = standing.window, standing.resets_at
    policy, current = f'"budget";q={standing.limit_micro_usd}', f'"budget";r={left}'
    if window.end is not None:
        policy += f";w={ceil((window.end - window.start).total_seconds())}"
    # Of a rolling budget known only when it denies: something falls out all the time.
    if resets_at is not None:
        current += f";t={max(ceil((resets_at - now).total_seconds()), 0)}"
    return {"ratelimit-policy": policy, "ratelimit": current}
