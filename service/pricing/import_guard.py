"""Judges a price book before it comes into force: what is worth a look, and what is not accepted unasked. Pure.

A list that lost its prices on the way, or states them by the million, prices everything wrongly at once: such a map
comes into force only when somebody names its version.
"""

from collections.abc import Collection, Iterator
from typing import Final, Literal

import msgspec

from service.pricing.book_diff import BookDiff, ModelChange

_PERCENT: Final = 100
# Beyond this share of the priced models a change is no change of prices but a broken list.
TOLERATED_PERCENT: Final = 20

WarningCode = Literal["price_became_zero", "price_far_off", "model_lost_prices", "used_model_removed"]
ObjectionCode = Literal["prices_gone", "prices_far_off"]


class BookWarning(msgspec.Struct, frozen=True, kw_only=True):
    """One change that somebody should look at; it hinders nothing."""

    code: WarningCode
    model: str
    detail: str
    name: str | None = None


class Objection(msgspec.Struct, frozen=True, kw_only=True):
    """Why a map is not accepted unless its version is named."""

    code: ObjectionCode
    detail: str


def objections_to(diff: BookDiff) -> tuple[Objection, ...]:
    """Return what speaks against the book; () = it may come into force unasked."""
    before = diff.priced_before
    found = []
    if _is_too_much(diff.priced_gone, before):
        detail = f"{diff.priced_gone} of {before} models with a price would have none"
        found.append(Objection(code="prices_gone", detail=detail))
    if _is_too_much(diff.priced_far_off, before):
        detail = f"{diff.priced_far_off} of {before} models with a price would cost ten times as much, or a tenth"
        found.append(Objection(code="prices_far_off", detail=detail))
    return tuple(found)


def warnings_about(diff: BookDiff, used_models: Collection[str]) -> tuple[BookWarning, ...]:
    """Return what is worth a look, the removal of models used lately first."""
    removed = (
        BookWarning(code="used_model_removed", model=model, detail="it was used lately and would have no price")
        for model in diff.removed
        if model in used_models
    )
    return (*removed, *(warning for change in diff.changed for warning in _warnings_about_model(change)))


def _warnings_about_model(change: ModelChange) -> Iterator[BookWarning]:
    if change.lost_all_prices:
        detail = "it had a price and would have none"
        yield BookWarning(code="model_lost_prices", model=change.model, detail=detail)
    for value in change.values:
        told = f"{value.old} -> {value.new}"
        if value.became_zero:
            yield BookWarning(code="price_became_zero", model=change.model, name=value.name, detail=told)
        elif value.is_far_off:
            yield BookWarning(code="price_far_off", model=change.model, name=value.name, detail=told)


def _is_too_much(models: int, of: int) -> bool:
    return models * _PERCENT > of * TOLERATED_PERCENT
