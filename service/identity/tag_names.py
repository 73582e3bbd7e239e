"""Which tags of a call stay when it has too many: first those that budgets and price rules look for. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from service.identity.call import AUTOMATIC_TAG
from service.identity.conditions import Match
from service.identity.dimensions import MAX_TAGS, CompletedDimensions


class TagNames:
    """Tags and beginnings of tags that matches name, with how many do. Never changed: `with_changes` makes another."""

    __slots__ = ("_lengths", "_prefixes", "_texts")

    def __init__(self, texts: Counter[str], prefixes: Counter[str]) -> None:
        self._texts, self._prefixes = texts, prefixes
        self._lengths = sorted({len(prefix) for prefix in prefixes})

    def has(self, tag: str) -> bool:
        """Tell whether the tag itself is named."""
        return tag in self._texts

    def prefixes_of(self, tag: str) -> Iterator[str]:
        """Yield the named beginnings the tag has. Those that gateways add have none: they count for nobody."""
        if tag.lower().startswith(AUTOMATIC_TAG):
            return
        for length in self._lengths:
            if tag[:length] in self._prefixes:
                yield tag[:length]

    def with_changes(self, former: Iterable[Match], new: Iterable[Match]) -> "TagNames":
        """Return the names without those of matches there are no more, and with those of others."""
        gone, come = _named(former), _named(new)
        if gone == come:
            return self
        return TagNames(
            *[
                _changed(known, less, more)
                for known, less, more in zip((self._texts, self._prefixes), gone, come, strict=True)
            ]
        )


class TagGathering:
    """Makes the names of very many matches, some at a time."""

    def __init__(self) -> None:
        self._texts: Counter[str] = Counter()
        self._prefixes: Counter[str] = Counter()

    def add(self, matches: Iterable[Match]) -> None:
        """Add matches, none of them for the second time."""
        texts, prefixes = _named(matches)
        self._texts.update(texts)
        self._prefixes.update(prefixes)

    def names(self) -> TagNames:
        """Return what was added; nothing may be added any more."""
        return TagNames(self._texts, self._prefixes)


NO_TAGS_NAMED = TagNames(Counter(), Counter())


def with_kept_tags(completed: CompletedDimensions, looked_for: Sequence[TagNames]) -> CompletedDimensions:
    """Return the dimensions with 32 tags at most.

    First come those that are named, then one for each beginning that is named (a prefix needs no more, and whoever
    sends tags can make any number of others with it), then any other, those of gateways last; each by text. Which ones
    does not depend on the order they come in: a check and its charge keep the same.
    """
    tags = completed.values.tags
    if len(tags) <= MAX_TAGS:
        return completed
    kept = set(_in_order_of_need(sorted(tags), looked_for)[:MAX_TAGS])
    values = msgspec.structs.replace(completed.values, tags=tuple([tag for tag in tags if tag in kept]))
    return msgspec.structs.replace(completed, values=values)


def _in_order_of_need(tags: Sequence[str], looked_for: Sequence[TagNames]) -> list[str]:
    first_with: dict[str, str] = {}
    for tag in tags:
        for prefix in {prefix for names in looked_for for prefix in names.prefixes_of(tag)}:
            first_with.setdefault(prefix, tag)
    named = [tag for tag in tags if any(names.has(tag) for names in looked_for)]
    others = sorted(tags, key=lambda tag: tag.lower().startswith(AUTOMATIC_TAG))
    return list(dict.fromkeys([*named, *sorted(first_with.values()), *others]))


def _named(matches: Iterable[Match]) -> tuple[Counter[str], Counter[str]]:
    conditions = [each for match in matches for each in match if each.dimension == "tag"]
    texts = Counter(value for each in conditions if each.kind == "any_of" for value in each.values)
    return texts, Counter(each.values[0] for each in conditions if each.kind == "prefix")


def _changed(known: Counter[str], less: Counter[str], more: Counter[str]) -> Counter[str]:
    if less == more:
        return known
    changed = known.copy()
    changed.update(more)
    changed.subtract(less)
    for value in less:
        if not changed[value]:
            del changed[value]
    return changed
