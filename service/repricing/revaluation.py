"""Prices a recorded charge anew by the facts kept with it. Pure.

Names are resolved again, by the aliases in force when the call was made as they are declared now; what the check or a
failed attempt knew of the requested model is in no fact of the call, so it is taken from the charge itself.
"""

from typing import Any, Final

import msgspec

from service.config.rating import rate_call
from service.config.snapshot import TenantConfig
from service.identity.dimensions import PEOPLE, Dimensions
from service.identity.models import IDENTITY, ModelIdentity
from service.identity.resolution import resolve_anew
from service.pricing.facts import CallFacts
from service.pricing.price_book import PriceBook
from service.pricing.rating_result import Line, Rating

ChargeRow = dict[str, Any]

# The version of the book is not among them: another book with the same price changes nothing.
PRICE: Final = (
    "price_state",
    "fees_price_state",
    "price_key",
    "cost_usd",
    "model_cost_usd",
    "fees_usd",
    "list_cost_usd",
    "enforced_usd",
    "assumed_usd",
)


class Revaluation(msgspec.Struct, frozen=True):
    """What a call is called and costs now."""

    facts: CallFacts
    models: ModelIdentity
    rating: Rating
    config_version: int


def facts_of(row: ChargeRow) -> CallFacts | None:
    """Return what the charge was priced from; None when that was not kept, or cannot be read any more."""
    if row["facts"] is None:
        return None
    try:
        return msgspec.convert(row["facts"], CallFacts)
    except msgspec.ValidationError:
        return None


def revalue(row: ChargeRow, facts: CallFacts, config: TenantConfig, book: PriceBook) -> Revaluation | None:
    """Return what a recorded charge (a row of `charge`) is now; None when that is what it was."""
    models = resolve_again(row, facts, config)
    rating = rate_call(facts, models, dimensions_of(row), config, book, row["occurred_at"])
    return None if _is_same(row, models, rating) else Revaluation(facts, models, rating, config.version)


def resolve_again(row: ChargeRow, facts: CallFacts, config: TenantConfig) -> ModelIdentity:
    """Return the names of a recorded call by the present aliases; what it asked for stays what it was."""
    return resolve_anew(
        facts.claims,
        config.aliases,
        row["occurred_at"],
        requested_model=row["requested_model"],
        requested_source=row["provenance"].get("requested_model"),
    )


def _is_same(row: ChargeRow, models: ModelIdentity, rating: Rating) -> bool:
    return (
        all(row[name] == getattr(rating, name) for name in PRICE)
        and all(row[name] == getattr(models, name) for name in IDENTITY)
        and _are_same(row["components"], rating.components)
        and _are_same(row["fees"], rating.fees)
    )


def _are_same(stored: list[dict[str, Any]], lines: tuple[Line, ...]) -> bool:
    return len(stored) == len(lines) and msgspec.convert(stored, tuple[Line, ...], strict=False) == lines


def dimensions_of(row: ChargeRow) -> Dimensions:
    """Return whose call it was, as its price depends on it."""
    return Dimensions(**{name: row[name] for name in PEOPLE}, tags=tuple(row["tags"]))
