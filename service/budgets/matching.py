"""Which budgets a call counts in, in which counter and in which window.

The one evaluator: checks, charges, seeding and recomputation all come here, so that a check and its charge can never
mean different counters. Pure.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import product
from typing import NamedTuple, get_args
from uuid import UUID

import msgspec

from service.budgets.budget import Budget, OnUnavailable
from service.budgets.period import Window, window_of
from service.budgets.subject import subject_text
from service.identity.call import CallNames
from service.identity.candidates import CandidateGathering, CandidateIndex, Filing, Values, file_match
from service.identity.dimensions import DIMENSION_NAMES, ROUTE_DIMENSIONS
from service.identity.tag_names import NO_TAGS_NAMED, TagGathering, TagNames


class BudgetCounter(msgspec.Struct, frozen=True):
    """One sum a call adds to: a budget, the values its "*" stand for, a window."""

    budget: Budget
    subject_values: dict[str, str]
    subject: str
    window: Window


class _Entry:
    """A budget in the index."""

    __slots__ = ("budget", "each", "filing", "order")

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.order = (budget.breadth, budget.budget_id.int)
        self.filing: Filing = file_match(budget.match)
        self.each = tuple(condition.dimension for condition in budget.match if condition.kind == "each")

    def counters(self, call: CallNames, at: datetime) -> list[BudgetCounter]:
        """Return the counters of a call that matches: one, or one per combination of values under "*"."""
        window = window_of(self.budget.period, at)
        columns = [call.each.get(dimension, ()) for dimension in self.each]
        if not columns:
            return [self._counter((), window)]
        if len(columns) == 1 and len(columns[0]) == 1:
            return [self._counter(columns[0], window)]
        distinct = [sorted(set(column)) for column in columns]
        return [self._counter(combination, window) for combination in product(*distinct)]

    def _counter(self, combination: tuple[str, ...], window: Window) -> BudgetCounter:
        """Return the counter of a combination, the same object as long as budget and window are the same."""
        name = (id(self.budget), combination)
        counter = _known_counters.get(name)
        if counter is None or counter.window is not window or counter.budget is not self.budget:
            values = dict(zip(self.each, combination, strict=True))
            counter = BudgetCounter(self.budget, values, subject_text(values), window)
            if len(_known_counters) >= _MOST_KNOWN:
                _known_counters.clear()
            _known_counters[name] = counter
        return counter


# Calls count in the same counters again and again. Found by identity: budgets are made once and hash slowly.
_MOST_KNOWN = 50_000
_known_counters: dict[tuple[int, tuple[str, ...]], BudgetCounter] = {}


class _Contents(NamedTuple):
    """Budgets in the index. Never changed: `with_changes` returns others, which share what they can."""

    entries: dict[UUID, _Entry]
    filed: CandidateIndex[_Entry]
    wanted: Counter[str]  # how many budgets want a value of a dimension
    named: Counter[str]  # how many say anything of it, be it that it is absent
    policies: Counter[tuple[str, OnUnavailable]]  # how many that enforce want a value of it, by their policy
    tags: TagNames

    def with_changes(self, changed: Iterable[Budget]) -> "_Contents":
        latest = {budget.budget_id: budget for budget in changed}
        if not latest:
            return self
        former = [self.entries[budget_id] for budget_id in latest if budget_id in self.entries]
        new = [_Entry(budget) for budget in latest.values() if budget.state != "archived"]
        entries = dict(self.entries)
        for budget_id in latest:
            entries.pop(budget_id, None)
        entries.update((entry.budget.budget_id, entry) for entry in new)
        filed = self.filed.with_changes(
            [(entry.filing, entry) for entry in former], [(entry.filing, entry) for entry in new]
        )
        wanted = self.wanted.copy()
        wanted.subtract(name for entry in former for name in _wanted_dimensions(entry.budget))
        wanted.update(name for entry in new for name in _wanted_dimensions(entry.budget))
        named = self.named.copy()
        named.subtract(condition.dimension for entry in former for condition in entry.budget.match)
        named.update(condition.dimension for entry in new for condition in entry.budget.match)
        policies = self.policies.copy()
        policies.subtract(policy for entry in former for policy in _policies(entry.budget))
        policies.update(policy for entry in new for policy in _policies(entry.budget))
        tags = self.tags.with_changes([entry.budget.match for entry in former], [entry.budget.match for entry in new])
        return _Contents(entries, filed, +wanted, +named, +policies, tags)


_NOTHING = _Contents({}, CandidateIndex({}), Counter(), Counter(), Counter(), NO_TAGS_NAMED)
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)
_MOST_MATCHED = 20_000


class _Matched(msgspec.Struct, frozen=True):
    """What a call counts in from `since` until `until`."""

    call: CallNames
    since: datetime
    until: datetime
    counters: tuple[BudgetCounter, ...]


class BudgetSet:
    """The budgets of one tenant as of one config_version. Immutable; a newer one is made by `with_changes`."""

    __slots__ = ("_contents", "_known", "route_dimensions", "version")

    def __init__(self, version: int, budgets: Iterable[Budget] = (), *, base: _Contents | None = None) -> None:
        self.version = version
        self._contents = (base or _NOTHING).with_changes(budgets)
        self._known: dict[int, _Matched] = {}
        # What budgets name and a call has only once a gateway has sent it somewhere.
        self.route_dimensions = tuple([name for name in ROUTE_DIMENSIONS if name in self._contents.named])

    def __len__(self) -> int:
        return len(self._contents.entries)

    @property
    def tag_names(self) -> TagNames:
        """The tags budgets name."""
        return self._contents.tags

    @property
    def budgets(self) -> list[Budget]:
        """The budgets, in no particular order."""
        return [entry.budget for entry in self._contents.entries.values()]

    def find(self, budget_id: UUID) -> Budget | None:
        """Return the budget of an id."""
        entry = self._contents.entries.get(budget_id)
        return None if entry is None else entry.budget

    def with_changes(self, version: int, changed: Iterable[Budget]) -> "BudgetSet":
        """Return the set after changes: new and changed budgets are in it, archived ones are not."""
        return BudgetSet(version, changed, base=self._contents)

    def match(self, call: CallNames, at: datetime, *, config_version: int | None = None) -> list[BudgetCounter]:
        """Return the counters a call at that time counts in, broadest last: the order in which their rows are locked.

        With `config_version` only budgets that existed in that version count.
        """
        entries = [
            entry
            for entry in self._matching(call)
            if entry.budget.covers(at) and (config_version is None or entry.budget.config_version <= config_version)
        ]
        return [counter for entry in entries for counter in entry.counters(call, at)]

    def match_again(self, call: CallNames, at: datetime) -> list[BudgetCounter]:
        """Return the same as `match`, from memory for calls that are made again and again: the same `call` object."""
        known = self._known.get(id(call))
        if known is None or known.call is not call or not known.since <= at < known.until:
            if len(self._known) >= _MOST_MATCHED:
                self._known.clear()
            known = self._known[id(call)] = self._match_for_long(call, at)
        return list(known.counters)

    def _match_for_long(self, call: CallNames, at: datetime) -> "_Matched":
        """Return what matches, and how long it does: until a window ends, or a budget begins to count."""
        since, until = _EARLIEST, _LATEST
        counters: list[BudgetCounter] = []
        for entry in self._matching(call):
            begins = entry.budget.counts_from or _EARLIEST
            if at < begins:
                until = min(until, begins)
                continue
            window = window_of(entry.budget.period, at)
            since, until = max(since, begins, window.start), min(until, window.end or _LATEST)
            counters += entry.counters(call, at)
        return _Matched(call, since, until, tuple(counters))

    def _matching(self, call: CallNames) -> list[_Entry]:
        """Return what matches whenever it counts, broadest last."""
        values: Values = call.values
        matching: dict[tuple[int, int], _Entry] = {}
        for entry in self._contents.filed.find(values):
            unproved = entry.filing.unproved
            if not unproved or all(condition.holds(values.get(condition.dimension, ())) for condition in unproved):
                matching[entry.order] = entry
        return [entry for _, entry in sorted(matching.items())]

    def count_candidates(self, call: CallNames) -> int:
        """Return how many budgets are looked at for a call: those that match, and few more."""
        return len({id(entry) for entry in self._contents.filed.find(call.values)})

    def unresolved(self, call: CallNames) -> list[str]:
        """Return the dimensions some budget wants a value of and the call has none for."""
        wanted = self._contents.wanted
        return [name for name in DIMENSION_NAMES if name in wanted and not call.values.get(name)]

    def policies(self, dimensions: Iterable[str]) -> list[OnUnavailable]:
        """Return what the budgets that enforce and want a value of some of these dimensions do when none can be had."""
        named = self._contents.policies
        return [policy for policy in get_args(OnUnavailable) if any((name, policy) in named for name in dimensions)]


class BudgetGathering:
    """Makes a set of very many budgets, some at a time: in one go it would take a second of a server's only thread."""

    def __init__(self) -> None:
        self._entries: dict[UUID, _Entry] = {}
        self._filed = CandidateGathering[_Entry]()
        self._wanted: Counter[str] = Counter()
        self._named: Counter[str] = Counter()
        self._policies: Counter[tuple[str, OnUnavailable]] = Counter()
        self._tags = TagGathering()

    def add(self, budgets: Iterable[Budget]) -> None:
        """Add budgets, none of them for the second time."""
        for entry in [_Entry(budget) for budget in budgets if budget.state != "archived"]:
            self._entries[entry.budget.budget_id] = entry
            self._filed.add(entry.filing, entry)
            self._wanted.update(_wanted_dimensions(entry.budget))
            self._named.update([condition.dimension for condition in entry.budget.match])
            self._policies.update(_policies(entry.budget))
            self._tags.add([entry.budget.match])

    def budget_set(self, version: int) -> BudgetSet:
        """Return the set of what was added; nothing may be added any more."""
        base = _Contents(
            self._entries, self._filed.index(), self._wanted, self._named, self._policies, self._tags.names()
        )
        return BudgetSet(version, base=base)


def _wanted_dimensions(budget: Budget) -> list[str]:
    return [condition.dimension for condition in budget.match if condition.kind != "absent"]


def _policies(budget: Budget) -> list[tuple[str, OnUnavailable]]:
    if budget.mode != "enforce":
        return []
    return [(name, budget.on_unavailable) for name in dict.fromkeys(_wanted_dimensions(budget))]
