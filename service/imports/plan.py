"""What an import would make of a LiteLLM proxy: keys, budgets, increases, and all that is not as it was there. Pure."""

import re
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Final, Literal

import msgspec

from service.budgets.budget import BudgetDraft
from service.budgets.period import Period
from service.identity.conditions import Match
from service.identity.dimensions import Dimensions
from service.identity.known_key import KeyFacts
from service.kit.money import EXACT

_LEAST_DIFFERENCE: Final = Decimal("0.000001")
_LOST_SHARE: Final = Decimal("1e-9")
SLUG_PREFIX: Final = "litellm-"
_MOST_SLUG_CHARACTERS: Final = 160
_NOT_IN_SLUGS: Final = re.compile(r"[^A-Za-z0-9._:@+-]")

# decision: taken otherwise than it reads; not_taken: there is nothing like it here, or it cannot be meant; spend: why
# a counter starts at another figure; source: what could not be read.
Topic = Literal["decision", "not_taken", "spend", "source"]

# comparable: the figure is what was spent in our present window; shifted: LiteLLM's window is another one; stale: its
# reset is overdue; unknown: no reset is stored.
Basis = Literal["comparable", "shifted", "stale", "unknown"]


class Remark(msgspec.Struct, frozen=True):
    """One thing an operator should know; `subject` names what it is about in LiteLLM's words."""

    topic: Topic
    subject: str
    detail: str


class PlannedKey(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the key registry."""

    api_key: str
    facts: KeyFacts
    is_blocked: bool


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A sum LiteLLM keeps in a column: what it says was spent, by whom (`match`), in the present window of a period.

    `dimensions`: of a charge that brings up what no log explains. `rank`: narrower accounts come first.
    """

    subject: str
    match: Match
    period: Period
    spend_usd: Decimal
    basis: Basis
    dimensions: Dimensions
    rank: int


class PlannedBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A budget, with the sums LiteLLM keeps for it; none for what it counts in its cache only."""

    kind: str
    subject: str
    draft: BudgetDraft
    accounts: tuple[Account, ...] = ()


class PlannedIncrease(msgspec.Struct, frozen=True, kw_only=True):
    """An increase of the budget of a slug; `subject` narrows it to one counter."""

    slug: str
    amount_usd: Decimal
    subject: str | None
    until: datetime
    reason: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, in the order it is written."""

    keys: tuple[PlannedKey, ...]
    budgets: tuple[PlannedBudget, ...]
    increases: tuple[PlannedIncrease, ...]
    remarks: tuple[Remark, ...]


def is_rounding(one: Decimal, other: Decimal) -> bool:
    """Tell whether two sums differ by no more than LiteLLM's doubles lose: a micro-USD, or a billionth of them."""
    return abs(EXACT.subtract(one, other)) <= max(_LEAST_DIFFERENCE, max(one, other) * _LOST_SHARE)


def slug_of(kind: str, *ids: str) -> str:
    """Return the slug of an entity, or of a limit of it: the same at every import, another one for every other."""
    written = ":".join(ids)
    text = SLUG_PREFIX + kind.replace(" ", "-") + (f"-{written}" if ids else "")
    slug = _NOT_IN_SLUGS.sub("-", text)
    if slug == text and len(text) <= _MOST_SLUG_CHARACTERS and not any(":" in one for one in ids):
        return slug
    digest = blake2b("\x00".join(ids).encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{slug[:_MOST_SLUG_CHARACTERS]}:{digest}"
