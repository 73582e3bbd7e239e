"""Builders of price rules and of the calls they may apply to."""

from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

from service.identity.dimensions import Dimensions
from service.identity.models import ModelIdentity, PriceCandidate
from service.pricing.rule_match import parse_rule_match
from service.pricing.rule_terms import Terms, parse_adjustment, parse_fee, parse_override
from service.pricing.rules import PriceRule, PricingRules, RatedCall

EVER = datetime(2020, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)

_numbers = count(1)


def a_rule(
    terms: Terms,
    match: dict[str, Any] | None = None,
    *,
    name: str = "a rule",
    start: datetime = EVER,
    end: datetime | None = None,
    number: int | None = None,
) -> PriceRule:
    """A rule newer than those built before it, unless its `number` says otherwise."""
    return PriceRule(
        rule_id=UUID(int=next(_numbers) if number is None else number),
        name=name,
        match=parse_rule_match(match or {}),
        terms=terms,
        effective_from=start,
        effective_to=end,
    )


def an_override(rates: dict[str, Any], match: dict[str, Any] | None = None, **rest: Any) -> PriceRule:
    """Rates in short: "0.000001" = so many USD, "x0.9" = so much of the listed rate."""
    replace = rest.pop("replace", False)
    documents = {key: {"factor": rate[1:]} if rate[0] == "x" else {"usd": rate} for key, rate in rates.items()}
    return a_rule(parse_override(documents, replace=replace), match, **rest)


def a_fee(kind: str, amount: str, match: dict[str, Any] | None = None, **rest: Any) -> PriceRule:
    return a_rule(parse_fee(kind, amount), match, **rest)


def an_adjustment(
    match: dict[str, Any] | None = None, *, name: str = "a rule", number: int | None = None, **amount: str
):
    return a_rule(parse_adjustment(amount), match, name=name, number=number)


def rules_of(*rules: PriceRule) -> PricingRules:
    return PricingRules(rules)


def a_call(
    model: str | None = "gpt-4o-mini",
    *,
    provider: str | None = "openai",
    occurred_at: datetime | None = NOON,
    call_type: str = "acompletion",
    price_key: str = "",
    mode: str = "",
    requested_model: str | None = None,
    deployment: str | None = None,
    deployment_id: str | None = None,
    candidates: tuple[str, ...] | None = None,
    **dimensions: Any,
) -> RatedCall:
    """A call of a model; `dimensions` are those of people, and `tags`."""
    names = candidates if candidates is not None else (() if model is None else (model,))
    return RatedCall(
        models=ModelIdentity(
            requested_model=requested_model,
            requested_canonical=requested_model or model,
            deployment=deployment,
            deployment_id=deployment_id,
            served_model=model,
            provider=provider,
            is_router=False,
            price_candidates=tuple(PriceCandidate(name=name) for name in names),
            provenance={},
        ),
        dimensions=Dimensions(**dimensions),
        call_type=call_type,
        occurred_at=occurred_at,
        price_key=price_key,
        mode=mode,
    )
