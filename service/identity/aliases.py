"""The alias book of one tenant: which names operators declared for which models, and when. Immutable, pure.

Names are compared without regard to case. Chains are followed to their end; names that go round in a circle are no
aliases at all, and a book that declares nothing costs nothing.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)

_MAX_HOPS: Final = 16
_MAX_ERAS_KEPT: Final = 16


class Alias(msgspec.Struct, frozen=True, kw_only=True):
    """`alias` means `model` for calls that occurred in [effective_from, effective_to)."""

    alias: str
    model: str
    effective_from: datetime = BEGINNING
    effective_to: datetime | None = None

    def is_in_force(self, at: datetime) -> bool:
        """Tell whether the alias holds at an instant."""
        return self.effective_from <= at and (self.effective_to is None or at < self.effective_to)

    def overlaps(self, other: "Alias") -> bool:
        """Tell whether both are in force at some instant."""
        return (self.effective_to is None or other.effective_from < self.effective_to) and (
            other.effective_to is None or self.effective_from < other.effective_to
        )


class AliasEra:
    """The aliases in force between two changes of the book; compared by identity, so that it can be a key of caches."""

    __slots__ = ("_models",)

    def __init__(self, models: Mapping[str, str]) -> None:
        self._models = models

    def find(self, name: str) -> str | None:
        """Return the model a name was declared for, or None."""
        return self._models.get(name.lower()) if self._models else None


NO_ALIASES: Final = AliasEra({})


class AliasBook:
    """All aliases of a tenant over all times."""

    __slots__ = ("_aliases", "_boundaries", "_eras")

    def __init__(self, aliases: Iterable[Alias] = ()) -> None:
        self._aliases = tuple(aliases)
        ends = [alias.effective_to for alias in self._aliases if alias.effective_to is not None]
        self._boundaries = sorted({*ends, *(alias.effective_from for alias in self._aliases)})
        self._eras: dict[int, AliasEra] = {}

    def __len__(self) -> int:
        return len(self._aliases)

    def holds(self, aliases: tuple[Alias, ...]) -> bool:
        """Tell whether these are its aliases, all of them: another book of them would know nothing else."""
        return self._aliases == aliases

    def in_force(self, at: datetime) -> AliasEra:
        """Return what is in force at an instant; the same object for every instant between two changes."""
        if not self._aliases:
            return NO_ALIASES
        number = bisect_right(self._boundaries, at)
        era = self._eras.get(number)
        if era is None:
            era = _era(alias for alias in self._aliases if alias.is_in_force(at))
            if len(self._eras) >= _MAX_ERAS_KEPT:
                self._eras.pop(next(iter(self._eras)))
            self._eras[number] = era
        return era

    def closes_circle(self, new: Alias) -> bool:
        """Tell whether a new alias would, at any time, lead back to itself."""
        wanted = new.alias.lower()
        open_names, seen = {new.model.lower()}, set[str]()
        while open_names:
            name = open_names.pop()
            if name == wanted:
                return True
            seen.add(name)
            # Dates are looked at loosely: links that never hold together are refused as well.
            open_names |= {
                link.model.lower() for link in self._aliases if link.alias.lower() == name and link.overlaps(new)
            } - seen
        return False


def _era(aliases: Iterable[Alias]) -> AliasEra:
    links = {alias.alias.lower(): alias.model for alias in aliases}
    ends = {name: end for name in links if (end := _end_of(name, links)) is not None}
    return AliasEra(ends) if ends else NO_ALIASES


def _end_of(name: str, links: Mapping[str, str]) -> str | None:
    """Return the last model of a chain, None if it is a circle or longer than anybody would write."""
    seen = {name}
    model = links[name]
    while (key := model.lower()) in links:
        if key in seen or len(seen) >= _MAX_HOPS:
            return None
        seen.add(key)
        model = links[key]
    return model
