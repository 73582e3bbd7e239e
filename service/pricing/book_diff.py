"""What another price book would change: models added and removed, and each value of a model, old and new. Pure.

Works on the map's own keys, so that also what rating does not understand is shown.
"""

from collections.abc import Iterator, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import cached_property
from typing import Any, Final

import msgspec

from service.kit.money import EXACT, ZERO, format_amount
from service.pricing.cost_map import decode_entry

# A rate that is this many times what it was, or the other way round, is most often a mistake in the list.
FAR_OFF: Final = 10

_ONE: Final = Decimal(1)
_FOUR_DIGITS: Final = Context(prec=4, rounding=ROUND_HALF_EVEN)

Entries = Mapping[str, msgspec.Raw]


class ValueChange(msgspec.Struct, frozen=True, kw_only=True):
    """One value of a model; None = not stated. `name` is the map's key, a dot or an index leads into a structure."""

    name: str
    old: Decimal | str | None
    new: Decimal | str | None
    is_price: bool

    @property
    def relative_change(self) -> str | None:
        """Return new / old - 1 to four digits, "0.25" = a quarter dearer; None where there is no such number."""
        if not isinstance(self.old, Decimal) or not isinstance(self.new, Decimal) or not self.old:
            return None
        return format_amount(_FOUR_DIGITS.divide(EXACT.subtract(self.new, self.old), self.old))

    @property
    def became_zero(self) -> bool:
        """Tell whether a price is zero that was not."""
        return self.is_price and self.new == ZERO and isinstance(self.old, Decimal) and bool(self.old)

    @property
    def is_far_off(self) -> bool:
        """Tell whether a price is more than ten times what it was, or less than a tenth."""
        if not self.is_price or not isinstance(self.old, Decimal) or not isinstance(self.new, Decimal):
            return False
        low, high = sorted((self.old, self.new))
        return low > 0 and high > EXACT.multiply(low, Decimal(FAR_OFF))


class ModelChange(msgspec.Struct, frozen=True):
    """A model that is in both books, and what is different."""

    model: str
    values: tuple[ValueChange, ...]
    lost_all_prices: bool  # it had a price, and has none but zeros now


class BookDiff(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The way from one book to another; models in the order of their names."""

    priced_before: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    removed_priced: frozenset[str]
    changed: tuple[ModelChange, ...]
    unchanged: int

    @cached_property
    def priced_gone(self) -> int:
        """How many models with a price would be without one."""
        return len(self.removed_priced) + sum(model.lost_all_prices for model in self.changed)

    @cached_property
    def priced_far_off(self) -> int:
        """How many models would have a price more than ten times what it was, or less than a tenth."""
        return sum(any(value.is_far_off for value in model.values) for model in self.changed)

    @property
    def is_empty(self) -> bool:
        """Tell whether both books are the same."""
        return not (self.added or self.removed or self.changed)


def compare_books(old: Entries, new: Entries) -> BookDiff:
    """Return what is different in `new`. Entries are canonical JSON: equal text is equal content."""
    both = sorted(old.keys() & new.keys())
    differing = [model for model in both if bytes(old[model]) != bytes(new[model])]
    removed = sorted(old.keys() - new.keys())
    priced = {model for model, entry in old.items() if has_price(decode_entry(entry))}
    return BookDiff(
        priced_before=len(priced),
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(removed),
        removed_priced=frozenset(priced.intersection(removed)),
        changed=tuple(
            _compare_models(model, decode_entry(old[model]), decode_entry(new[model])) for model in differing
        ),
        unchanged=len(both) - len(differing),
    )


def has_price(entry: dict[str, Any]) -> bool:
    """Tell whether the entry states any price that is not zero."""
    return any(is_price and isinstance(value, Decimal) and value > 0 for _, value, is_price in flat_values(entry))


def flat_values(entry: dict[str, Any]) -> Iterator[tuple[str, Decimal | str, bool]]:
    """Yield (name, value, whether it is an amount) of everything the entry states, structures unfolded."""
    for key, value in entry.items():
        yield from _unfold(key, value, is_amount="cost" in key)


def _unfold(name: str, value: Any, *, is_amount: bool) -> Iterator[tuple[str, Decimal | str, bool]]:
    match value:
        case dict():
            for key, part in value.items():
                yield from _unfold(f"{name}.{key}", part, is_amount=is_amount or "cost" in key)
        case list():
            for index, part in enumerate(value):
                yield from _unfold(f"{name}[{index}]", part, is_amount=is_amount)
        case bool() | str() | None:
            yield name, msgspec.json.encode(value).decode() if not isinstance(value, str) else value, False
        case _:
            yield name, Decimal(value), is_amount


def _compare_models(model: str, old: dict[str, Any], new: dict[str, Any]) -> ModelChange:
    before = {name: (value, is_price) for name, value, is_price in flat_values(old)}
    after = {name: (value, is_price) for name, value, is_price in flat_values(new)}
    nothing = (None, False)
    values = tuple(
        ValueChange(
            name=name,
            old=before.get(name, nothing)[0],
            new=after.get(name, nothing)[0],
            is_price=before.get(name, nothing)[1] or after.get(name, nothing)[1],
        )
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )
    return ModelChange(model, values, lost_all_prices=has_price(old) and not has_price(new))
