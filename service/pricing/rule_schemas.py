"""Wire shapes of price rules: amounts are strings (numbers are taken too, by their text)."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from service.errors import InvalidInput
from service.identity.conditions import match_document
from service.identity.repricing_offer import RepricingOffer
from service.kit.instants import bounded_instant
from service.kit.text import stripped_text
from service.pricing.rule_match import declared_rule_match
from service.pricing.rule_repository import RuleRow
from service.pricing.rule_service import RuleDraft
from service.pricing.rule_terms import (
    ADJUSTMENT_KINDS,
    FeeKind,
    RuleKind,
    Terms,
    parse_adjustment,
    parse_fee,
    parse_override,
)

MAX_NAME_CHARACTERS: Final = 200
MAX_REASON_CHARACTERS: Final = 500

AwareTime = Annotated[datetime, Meta(tz=True)]


class _RuleRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What all rules have in common; without `effective_from` a rule holds from now on, without an end for ever."""

    name: str
    match: dict[str, Any]
    effective_from: AwareTime | None = None
    effective_to: AwareTime | None = None
    reason: str | None = None

    def _draft(self, kind: RuleKind, terms: Terms) -> RuleDraft:
        return RuleDraft(
            kind=kind,
            name=_checked_text(self.name, MAX_NAME_CHARACTERS, "name"),
            match=declared_rule_match(self.match),
            terms=terms,
            effective_from=_bounded(self.effective_from, "effective_from"),
            effective_to=_bounded(self.effective_to, "effective_to"),
            reason=None if self.reason is None else _checked_text(self.reason, MAX_REASON_CHARACTERS, "reason"),
        )


class OverrideRequest(_RuleRequest, kw_only=True, forbid_unknown_fields=True):
    """Rates by the cost map's keys, each `{"usd": "…"}` or `{"factor": "…"}`; `replace`: they alone are the price."""

    rates: dict[str, dict[str, Decimal]]
    replace: bool = False

    def to_draft(self) -> RuleDraft:
        """Return the rule asked for. Raises InvalidInput with the field that cannot be taken."""
        return self._draft("override", parse_override(self.rates, replace=self.replace))


class FeeRequest(_RuleRequest, kw_only=True, forbid_unknown_fields=True):
    """A fee of so many USD per what `kind` says, or percent of the billed cost of the model."""

    kind: FeeKind
    amount: Decimal

    def to_draft(self) -> RuleDraft:
        """Return the rule asked for. Raises InvalidInput with the field that cannot be taken."""
        return self._draft("fee", parse_fee(self.kind, self.amount))


class DiscountRequest(_RuleRequest, kw_only=True, forbid_unknown_fields=True):
    """A discount or a markup, in percent of the list cost or USD per request: exactly one of the four."""

    discount_percent: Decimal | None = None
    discount_usd: Decimal | None = None
    markup_percent: Decimal | None = None
    markup_usd: Decimal | None = None

    def to_draft(self) -> RuleDraft:
        """Return the rule asked for. Raises InvalidInput with the field that cannot be taken."""
        amounts: dict[str, Decimal | None] = {kind: getattr(self, kind) for kind in ADJUSTMENT_KINDS}
        given = {kind: amount for kind, amount in amounts.items() if amount is not None}
        return self._draft("discount", parse_adjustment(given))


class _RuleView(msgspec.Struct, kw_only=True):
    id: str
    name: str
    match: dict[str, Any]
    effective_from: datetime
    effective_to: datetime | None
    reason: str | None
    created_at: datetime
    created_by: str


class OverrideView(_RuleView, kw_only=True):
    """A declared override."""

    rates: dict[str, dict[str, str]]
    replace: bool


class DeclaredOverride(OverrideView, kw_only=True):
    """An override just declared; `repricing_offers`: charges without a price that have one now (null = not known)."""

    repricing_offers: list[RepricingOffer] | None


class FeeView(_RuleView, kw_only=True):
    """A declared fee."""

    kind: FeeKind
    amount: str


class DiscountView(_RuleView, kw_only=True):
    """A declared discount or markup; one of the four is not null."""

    discount_percent: str | None = None
    discount_usd: str | None = None
    markup_percent: str | None = None
    markup_usd: str | None = None


class OverrideList(msgspec.Struct):
    """A page of overrides."""

    price_overrides: list[OverrideView]
    next_cursor: str | None


class FeeList(msgspec.Struct):
    """A page of fees."""

    fees: list[FeeView]
    next_cursor: str | None


class DiscountList(msgspec.Struct):
    """A page of discounts and markups."""

    discounts: list[DiscountView]
    next_cursor: str | None


def override_view(row: RuleRow) -> OverrideView:
    """Return an override for the wire."""
    return OverrideView(**_fields(row))


def declared_override(row: RuleRow, offers: list[RepricingOffer] | None) -> DeclaredOverride:
    """Return an override just declared for the wire."""
    return DeclaredOverride(**_fields(row), repricing_offers=offers)


def fee_view(row: RuleRow) -> FeeView:
    """Return a fee for the wire."""
    return FeeView(**_fields(row))


def discount_view(row: RuleRow) -> DiscountView:
    """Return a discount or markup for the wire."""
    return DiscountView(**_fields(row))


def _fields(row: RuleRow) -> Mapping[str, Any]:
    rule = row.rule
    return {
        "id": str(rule.rule_id),
        "name": rule.name,
        "match": match_document(rule.match),
        **rule.terms.document(),
        "effective_from": rule.effective_from,
        "effective_to": rule.effective_to,
        "reason": row.reason,
        "created_at": row.created_at,
        "created_by": row.created_by,
    }


def _bounded(instant: datetime | None, field: str) -> datetime | None:
    return None if instant is None else bounded_instant(instant, field)


def _checked_text(text: str, most: int, field: str) -> str:
    stripped = stripped_text(text)
    if not stripped or len(stripped) > most or not stripped.isprintable():
        raise InvalidInput(f"This takes 1 to {most} printable characters.", field=field)
    return stripped
