"""What the model of counters and holds knows of one reservation."""

from collections.abc import Sequence

Route = tuple[int, frozenset[int], str]  # amount, counters, name


class Held:
    """One reservation in the model: what it still holds per counter, how it ended, and which routes it was for."""

    def __init__(self, fingerprint: str, shares: dict[int, int], avoided: set[int], routes: dict[str, bool]) -> None:
        self.fingerprint = fingerprint
        self.avoided = avoided  # only denied routes go through them
        self.left = {number: amount for number, amount in shares.items() if amount}
        self.routes = routes  # by name
        self.is_live = True
        self.is_due = False

    def allows(self, routes: Sequence[Route], *, is_short: bool) -> tuple[bool, ...]:
        """Return which routes a repeat may take; none: it is decided anew."""
        if is_short and not self.avoided:
            return (True,)
        known = [None if is_short else self.routes.get(name) for *_, name in routes]
        covered = [all(self.left.get(n, 0) >= max(amount, 1) for n in each) for amount, each, _ in routes]
        allowed = [fits if told is None else told for told, fits in zip(known, covered, strict=True)]
        if any(allowed):
            return tuple(allowed)
        return tuple(told is None and not each & self.avoided for told, (_, each, _) in zip(known, routes, strict=True))
