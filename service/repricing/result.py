"""What a repricing comes to: sums before and after, by what the charges are. Pure; the tally of a preview."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import msgspec

from service.kit.money import EXACT, ZERO, format_amount

# Of each kind of group the ones that move the most are shown.
GROUPS_SHOWN: Final = 20
# A tally holds no more groups of a kind than this; what comes beyond is summed up under one name.
_MOST_GROUPS: Final = 50_000
OTHERS: Final = "(others)"

DIMENSIONS: Final = ("team", "api_key", "served_model")


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """What the changed charges of one group cost before and after; `value` null = absent."""

    value: str | None
    before_usd: str
    after_usd: str
    delta_usd: str


class StateShift(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the changed charges were of a price state before and after, and what they cost."""

    price_state: str
    charges_before: int
    charges_after: int
    before_usd: str
    after_usd: str


class RepricingResult(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the charges that change; amounts in USD, plain notation. The groups are those that move the most."""

    before_usd: str
    after_usd: str
    delta_usd: str
    enforced_delta_usd: str
    price_states: list[StateShift]
    teams: list[Shift]
    api_keys: list[Shift]
    served_models: list[Shift]


class Sums(msgspec.Struct):
    """Cost and number of charges of a group, before and after."""

    before: Decimal = ZERO
    after: Decimal = ZERO
    charges_before: int = 0
    charges_after: int = 0


Groups = Mapping[str | None, Sums]


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """A charge as it was, or as it becomes."""

    team: str | None
    api_key: str | None
    served_model: str | None
    price_state: str
    cost_usd: Decimal
    enforced_usd: Decimal


class Tally:
    """Adds up changes one by one, in bounded memory."""

    def __init__(self, most_groups: int = _MOST_GROUPS) -> None:
        self._most_groups = most_groups
        self._total = Sums()
        self._enforced_delta = ZERO
        self._states: dict[str | None, Sums] = {}
        self._groups: dict[str, dict[str | None, Sums]] = {name: {} for name in DIMENSIONS}

    def add(self, before: Side, after: Side) -> None:
        """Add a charge that changes."""
        _add_before(self._total, before)
        _add_after(self._total, after)
        self._enforced_delta = EXACT.add(self._enforced_delta, EXACT.subtract(after.enforced_usd, before.enforced_usd))
        for name in DIMENSIONS:
            groups = self._groups[name]
            _add_before(self._sums(groups, getattr(before, name)), before)
            _add_after(self._sums(groups, getattr(after, name)), after)
        _add_before(self._sums(self._states, before.price_state), before)
        _add_after(self._sums(self._states, after.price_state), after)

    def _sums(self, groups: dict[str | None, Sums], value: str | None) -> Sums:
        sums = groups.get(value)
        if sums is None:
            if len(groups) >= self._most_groups:
                value = OTHERS
            sums = groups.setdefault(value, Sums())
        return sums

    def result(self) -> RepricingResult:
        """Return what was added up."""
        return result_of(self._total, self._enforced_delta, self._states, self._groups)


def result_of(total: Sums, enforced_delta: Decimal, states: Groups, groups: Mapping[str, Groups]) -> RepricingResult:
    """Return the result of sums; of each kind of group those that move the most."""
    return RepricingResult(
        before_usd=format_amount(total.before),
        after_usd=format_amount(total.after),
        delta_usd=format_amount(_delta(total)),
        enforced_delta_usd=format_amount(enforced_delta),
        price_states=[_state_shift(str(state), sums) for state, sums in sorted(states.items(), key=_by_name)],
        teams=_shifts(groups["team"]),
        api_keys=_shifts(groups["api_key"]),
        served_models=_shifts(groups["served_model"]),
    )


def _shifts(groups: Groups) -> list[Shift]:
    most = sorted(groups.items(), key=_by_delta)[:GROUPS_SHOWN]
    return [
        Shift(
            value=value,
            before_usd=format_amount(sums.before),
            after_usd=format_amount(sums.after),
            delta_usd=format_amount(_delta(sums)),
        )
        for value, sums in most
    ]


def _state_shift(state: str, sums: Sums) -> StateShift:
    return StateShift(
        price_state=state,
        charges_before=sums.charges_before,
        charges_after=sums.charges_after,
        before_usd=format_amount(sums.before),
        after_usd=format_amount(sums.after),
    )


def _by_delta(group: tuple[str | None, Sums]) -> tuple[Decimal, str]:
    value, sums = group
    return _delta(sums).copy_abs().copy_negate(), value or ""


def _by_name(group: tuple[str | None, Sums]) -> str:
    return group[0] or ""


def _delta(sums: Sums) -> Decimal:
    return EXACT.subtract(sums.after, sums.before)


def _add_before(sums: Sums, side: Side) -> None:
    sums.before = EXACT.add(sums.before, side.cost_usd)
    sums.charges_before += 1


def _add_after(sums: Sums, side: Side) -> None:
    sums.after = EXACT.add(sums.after, side.cost_usd)
    sums.charges_after += 1
