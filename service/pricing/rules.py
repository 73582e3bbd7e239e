"""A tenant's own price rules, ready for rating: overrides of rates, fees, discounts and markups. Pure.

Which rules a call meets is looked up in an index and remembered by what they look at, so that thousands of rules cost a
call little more than one, and none cost nothing.
"""

from collections.abc import Iterable
from datetime import datetime
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import msgspec

from service.identity.call import Values, call_names
from service.identity.candidates import CandidateIndex, Filing, file_match
from service.identity.conditions import Condition, Match
from service.identity.dimensions import PEOPLE, Dimensions
from service.identity.models import ModelIdentity
from service.identity.tag_names import TagGathering
from service.pricing.rule_match import CALL_TYPE, MODE, MODEL, PRICE_KEY
from service.pricing.rule_terms import AdjustmentTerms, FeeTerms, OverrideTerms, Terms

T = TypeVar("T", bound=Terms)

# The fields of a call that its values of a dimension are made from.
_PATHS: Final[dict[str, tuple[str, ...]]] = {
    **{name: (f"dimensions.{name}",) for name in PEOPLE},
    "tag": ("dimensions.tags",),
    "requested_model": ("models.requested_model", "models.requested_canonical"),
    "deployment": ("models.deployment", "models.deployment_id"),
    "served_model": ("models.served_model",),
    "provider": ("models.provider",),
    MODEL: ("models.served_model", "price_key"),
    PRICE_KEY: ("price_key",),
    MODE: ("mode",),
    CALL_TYPE: ("call_type",),
}
_MAX_REMEMBERED: Final = 4096


class RatedCall(msgspec.Struct, frozen=True):
    """What rules look at to tell whether they apply to a call.

    `price_key` and `mode` are those of the price book's entry, "" while none is known. Without `occurred_at` no rule
    is in force.
    """

    models: ModelIdentity
    dimensions: Dimensions
    call_type: str
    occurred_at: datetime | None
    price_key: str = ""
    mode: str = ""


class PriceRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule for calls that occurred in [effective_from, effective_to) and meet all conditions."""

    rule_id: UUID
    name: str
    match: Match
    terms: Terms
    effective_from: datetime
    effective_to: datetime | None = None

    @property
    def specificity(self) -> tuple[int, int, int]:
        """Order of overrides: more conditions, then more of them by exact values, then the newer rule come last."""
        exact = sum(condition.kind == "any_of" for condition in self.match)
        return len(self.match), exact, self.rule_id.int

    def is_in_force(self, at: datetime) -> bool:
        """Tell whether the rule holds for calls of an instant."""
        return self.effective_from <= at and (self.effective_to is None or at < self.effective_to)


class MatchedRule(msgspec.Struct, Generic[T], frozen=True):
    """A rule with its terms, by their own type."""

    rule: PriceRule
    terms: T


class RuleSet(Generic[T]):
    """The rules of one kind, each looked at from the least to the most specific."""

    __slots__ = ("_filed", "_patterned", "_patterns", "_read", "_remembered", "rules")

    def __init__(self, rules: Iterable[PriceRule], kind: type[T]) -> None:
        chosen = [MatchedRule(rule, rule.terms) for rule in rules if isinstance(rule.terms, kind)]
        self.rules = tuple(sorted(chosen, key=lambda matched: matched.rule.specificity))
        filed: list[tuple[Filing, tuple[int, Filing]]] = []
        for number, matched in enumerate(self.rules):
            filing = file_match(matched.rule.match)
            filed.append((filing, (number, filing)))
        self._filed = CandidateIndex[tuple[int, Filing]]({}).with_changes([], filed)
        dimensions = {condition.dimension for matched in self.rules for condition in matched.rule.match}
        paths = sorted({path for dimension in dimensions for path in _PATHS[dimension]})
        self._read = attrgetter(*paths) if paths else None
        self._remembered: dict[Any, tuple[MatchedRule[T], ...]] = {}
        self._patterns: dict[str, list[tuple[int, Condition]]] = {}
        for number, matched in enumerate(self.rules):
            for condition in matched.rule.match:
                if condition.kind == "pattern":
                    self._patterns.setdefault(condition.dimension, []).append((number, condition))
        self._patterned: dict[tuple[str, tuple[str, ...]], frozenset[int]] = {}

    def __len__(self) -> int:
        return len(self.rules)

    def in_force(self, call: RatedCall) -> tuple[MatchedRule[T], ...]:
        """Return the rules that apply to a call, from the least to the most specific."""
        at = call.occurred_at
        if at is None or not self.rules:
            return ()
        seen = None if self._read is None else self._read(call)
        matching = self._remembered.get(seen)
        if matching is None:
            matching = self._match(call)
            if len(self._remembered) >= _MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[seen] = matching
        return tuple([matched for matched in matching if matched.rule.is_in_force(at)]) if matching else ()

    def _match(self, call: RatedCall) -> tuple[MatchedRule[T], ...]:
        values = call_values(call)
        numbers = {
            number
            for number, filing in self._filed.find(values)
            if all(self._holds(number, condition, values) for condition in filing.unproved)
        }
        return tuple(self.rules[number] for number in sorted(numbers))

    def _holds(self, number: int, condition: Condition, values: Values) -> bool:
        found = values.get(condition.dimension, ())
        if condition.kind != "pattern":
            return condition.holds(found)
        return number in self._matching_patterns(condition.dimension, found)

    def _matching_patterns(self, dimension: str, values: tuple[str, ...]) -> frozenset[int]:
        """Return the rules whose pattern of a dimension holds: remembered, for other dimensions change more often."""
        numbers = self._patterned.get((dimension, values))
        if numbers is None:
            numbers = frozenset(number for number, pattern in self._patterns[dimension] if pattern.holds(values))
            if len(self._patterned) >= _MAX_REMEMBERED:
                self._patterned.clear()
            self._patterned[dimension, values] = numbers
        return numbers


class PricingRules:
    """The rules of one tenant. Falsy when there are none: most calls then skip them."""

    __slots__ = ("adjustments", "compiled", "fees", "overrides", "rule_ids", "tag_names")

    def __init__(self, rules: Iterable[PriceRule] = ()) -> None:
        known = tuple(rules)
        self.rule_ids = frozenset(rule.rule_id for rule in known)
        self.overrides = RuleSet(known, OverrideTerms)
        self.fees = RuleSet(known, FeeTerms)
        self.adjustments = RuleSet(known, AdjustmentTerms)
        gathering = TagGathering()
        gathering.add(rule.match for rule in known)
        self.tag_names = gathering.names()
        # Prices under overrides, kept by `overrides.find_overridden`.
        self.compiled: dict[Any, Any] = {}

    def __bool__(self) -> bool:
        return bool(self.rule_ids)


NO_RULES: Final = PricingRules()


def call_values(call: RatedCall) -> Values:
    """Return every text a rule's value may equal, per dimension; () = absent."""
    values = call_names(call.dimensions, call.models).values
    price_key = (call.price_key.lower(),) if call.price_key else ()
    call_type = call.call_type.lower()
    return {
        **values,
        MODEL: (*values["served_model"], *price_key),
        PRICE_KEY: price_key,
        MODE: (call.mode.lower(),) if call.mode else (),
        # A rule for `embedding` is meant for `aembedding`, the same thing asked for asynchronously, too.
        CALL_TYPE: (call_type, call_type.removeprefix("a")) if call_type else (),
    }
