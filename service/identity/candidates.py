"""Finds the few matches a call may meet without looking at the others: an index by (dimension, value).

Each match, of a budget or of a price rule, is filed under one probe, which says how the keys of a call are made, and
under the keys it answers to. A call is looked up once per probe and key. Probes are as many as matches differ in *kind*
(which dimensions they name), so the cost of a look-up does not grow with how many there are. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Final, Generic, TypeVar

import msgspec

from service.identity.conditions import Condition, Match
from service.identity.dimensions import PEOPLE

Values = Mapping[str, tuple[str, ...]]
Key = tuple[str, ...]
Entry = TypeVar("Entry")

_SINGLE_VALUED: Final = frozenset({*PEOPLE, "provider"})
# A match that names more combinations than this is filed by fewer of its dimensions.
_MAX_KEYS_PER_MATCH: Final = 4096


class ExactProbe(msgspec.Struct, frozen=True, cache_hash=True):
    """Looks a call up by its values of these dimensions."""

    dimensions: tuple[str, ...]

    def keys(self, values: Values) -> Iterable[Key]:
        """Return the keys of a call: one, but for tags and for the several forms of a model's name."""
        columns = [values.get(dimension, ()) for dimension in self.dimensions]
        return product(*columns)


class PrefixProbe(msgspec.Struct, frozen=True, cache_hash=True):
    """Looks a call up by the first characters of its values of one dimension."""

    dimension: str
    length: int

    def keys(self, values: Values) -> Iterable[Key]:
        """Return the keys of a call."""
        length = self.length
        return [(value[:length],) for value in values.get(self.dimension, ()) if len(value) >= length]


class PresenceProbe(msgspec.Struct, frozen=True, cache_hash=True):
    """Asks only which dimensions a call has: all that is filed here matches but for what is unproved, or nothing."""

    present: tuple[str, ...]
    absent: tuple[str, ...]

    def keys(self, values: Values) -> Iterable[Key]:
        """Return the one empty key if the call has and lacks what it should."""
        if all(values.get(name) for name in self.present) and not any(values.get(name) for name in self.absent):
            return ((),)
        return ()


Probe = ExactProbe | PrefixProbe | PresenceProbe


class Filing(msgspec.Struct, frozen=True, gc=False):
    """Where a match is filed, and the conditions a hit has not yet proved."""

    probe: Probe
    keys: tuple[Key, ...]
    unproved: Match


def file_match(conditions: Match) -> Filing:
    """Choose where a match of these conditions is filed."""
    anchors = _exact_anchors(conditions)
    if anchors:
        probe = _exact_probe(tuple(anchor.dimension for anchor in anchors))
        keys = tuple(product(*(anchor.values for anchor in anchors)))
        return Filing(probe, keys, _without(conditions, anchors))
    prefixes = [condition for condition in conditions if condition.kind == "prefix"]
    if prefixes:
        longest = max(prefixes, key=lambda condition: len(condition.values[0]))
        text = longest.values[0]
        return Filing(PrefixProbe(longest.dimension, len(text)), ((text,),), _without(conditions, [longest]))
    each = [condition for condition in conditions if condition.kind == "each"]
    absent = [condition for condition in conditions if condition.kind == "absent"]
    presence = PresenceProbe(tuple(c.dimension for c in each), tuple(c.dimension for c in absent))
    return Filing(presence, ((),), _without(conditions, [*each, *absent]))


def _exact_anchors(conditions: Match) -> list[Condition]:
    """Return the conditions on exact values to file by: of those a call has several values for, one at most."""
    exact = [condition for condition in conditions if condition.kind == "any_of"]
    several = [condition for condition in exact if condition.dimension not in _SINGLE_VALUED]
    anchors: list[Condition] = []
    count = 1
    for condition in [c for c in exact if c.dimension in _SINGLE_VALUED] + several[:1]:
        if not anchors or count * len(condition.values) <= _MAX_KEYS_PER_MATCH:
            anchors.append(condition)
            count *= len(condition.values)
    return anchors


@lru_cache(maxsize=1024)
def _exact_probe(dimensions: tuple[str, ...]) -> ExactProbe:
    """Return one object for all matches of a kind: imports bring very many of them."""
    return ExactProbe(dimensions)


def _without(conditions: Match, proved: Sequence[Condition]) -> Match:
    if len(conditions) == len(proved):
        return ()
    proved_dimensions = {condition.dimension for condition in proved}
    return tuple(condition for condition in conditions if condition.dimension not in proved_dimensions)


class CandidateIndex(Generic[Entry]):
    """Entries by probe and key. Never changed once made: `with_changes` returns another, which shares what it can."""

    __slots__ = ("_postings",)

    def __init__(self, postings: Mapping[Probe, Mapping[Key, Sequence[Entry]]]) -> None:
        self._postings = postings

    def find(self, values: Values) -> Iterator[Entry]:
        """Yield the entries a call may match; one that answers to several of its keys may come several times."""
        for probe, by_key in self._postings.items():
            for key in probe.keys(values):
                yield from by_key.get(key, ())

    def with_changes(
        self, removed: Iterable[tuple[Filing, Entry]], added: Iterable[tuple[Filing, Entry]]
    ) -> "CandidateIndex[Entry]":
        """Return the index without some entries and with others."""
        gone = _by_slot(removed)
        new = _by_slot(added)
        postings = dict(self._postings)
        for probe in {*gone, *new}:
            by_key = dict(postings.get(probe, {}))
            for key, entries in gone.get(probe, {}).items():
                _remove(by_key, key, entries)
            for key, entries in new.get(probe, {}).items():
                by_key[key] = (*by_key.get(key, ()), *entries)
            if by_key:
                postings[probe] = by_key
            else:
                postings.pop(probe, None)
        return CandidateIndex(postings)


class CandidateGathering(Generic[Entry]):
    """Files entries one by one, for an index of so many that it is made with rests in between."""

    def __init__(self) -> None:
        self.postings: dict[Probe, dict[Key, list[Entry]]] = {}

    def add(self, filing: Filing, entry: Entry) -> None:
        """File an entry."""
        by_key = self.postings.setdefault(filing.probe, {})
        for key in filing.keys:
            by_key.setdefault(key, []).append(entry)

    def index(self) -> CandidateIndex[Entry]:
        """Return the index of what was filed; nothing may be added any more."""
        return CandidateIndex(self.postings)


def _remove(by_key: dict[Key, Sequence[Entry]], key: Key, gone: Sequence[Entry]) -> None:
    gone_ids = {id(entry) for entry in gone}
    kept = tuple(entry for entry in by_key.get(key, ()) if id(entry) not in gone_ids)
    if kept:
        by_key[key] = kept
    else:
        by_key.pop(key, None)


def _by_slot(filed: Iterable[tuple[Filing, Entry]]) -> dict[Probe, dict[Key, list[Entry]]]:
    gathering = CandidateGathering[Entry]()
    for filing, entry in filed:
        gathering.add(filing, entry)
    return gathering.postings
