"""Which tags the budgets of a tenant name: they stay when a call has too many. Pure."""

from collections import Counter
from collections.abc import Iterable

from service.budgets.budget import Budget
from service.identity.call import AUTOMATIC_TAG

_BY_TEXT, _BY_PREFIX, _BY_NONE, _AUTOMATIC = range(4)


class TagNames:
    """Tags and prefixes of tags that budgets name, with how many do. Never changed: `with_changes` makes another."""

    __slots__ = ("_lengths", "_prefixes", "_texts")

    def __init__(self, texts: Counter[str], prefixes: Counter[str]) -> None:
        self._texts, self._prefixes = texts, prefixes
        self._lengths = sorted({len(prefix) for prefix in prefixes})

    def rank(self, tag: str) -> int:
        """Return 0 for a tag some budget names, 1 for one whose beginning some budget names, 2 for any other.

        And 3 for those of gateways, which count for nobody. A beginning comes second: whoever sends tags can make any
        number of others that begin so.
        """
        if tag in self._texts:
            return _BY_TEXT
        if tag.lower().startswith(AUTOMATIC_TAG):
            return _AUTOMATIC
        is_named = any(tag[:length] in self._prefixes for length in self._lengths)
        return _BY_PREFIX if is_named else _BY_NONE

    def with_changes(self, former: Iterable[Budget], new: Iterable[Budget]) -> "TagNames":
        """Return the names without those of budgets there are no more, and with those of others."""
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
    """Makes the names of very many budgets, some at a time."""

    def __init__(self) -> None:
        self._texts: Counter[str] = Counter()
        self._prefixes: Counter[str] = Counter()

    def add(self, budgets: Iterable[Budget]) -> None:
        """Add budgets, none of them for the second time."""
        texts, prefixes = _named(budgets)
        self._texts.update(texts)
        self._prefixes.update(prefixes)

    def names(self) -> TagNames:
        """Return what was added; nothing may be added any more."""
        return TagNames(self._texts, self._prefixes)


NO_TAGS_NAMED = TagNames(Counter(), Counter())


def _named(budgets: Iterable[Budget]) -> tuple[Counter[str], Counter[str]]:
    conditions = [each for budget in budgets for each in budget.match if each.dimension == "tag"]
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
