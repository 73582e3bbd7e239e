"""Parts of sums that no log explains, found by whom they may be further attributed to. Pure."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from service.identity.dimensions import PEOPLE, Dimensions
from service.imports.plan import Account

# Those that tell pieces apart the best come first.
_INDEXED: Final = ("api_key", "end_user", "user", "project", "team", "organization")


class Piece(NamedTuple):
    """A part of a sum, of somebody, at a time; `account` is whose sum it came from."""

    account: Account
    dimensions: Dimensions
    at: datetime
    amount_usd: Decimal


class Pieces:
    """All pieces, each filed under every dimension that is indexed."""

    def __init__(self) -> None:
        self._pieces: dict[int, Piece] = {}
        self._filed: dict[tuple[str, str | None], dict[int, None]] = {}
        self._next = 0

    def __iter__(self) -> Iterator[Piece]:
        return iter(self._pieces.values())

    def add(self, piece: Piece) -> None:
        """Add a piece."""
        self._pieces[self._next] = piece
        for name in _INDEXED:
            self._filed.setdefault((name, getattr(piece.dimensions, name)), {})[self._next] = None
        self._next += 1

    def remove(self, number: int) -> None:
        """Remove a piece."""
        piece = self._pieces.pop(number)
        for name in _INDEXED:
            del self._filed[name, getattr(piece.dimensions, name)][number]

    def find_compatible(self, dimensions: Dimensions, since: datetime) -> list[tuple[int, Piece, Dimensions]]:
        """Return pieces that may be of somebody besides: (number, piece, the dimensions it would have then)."""
        found = []
        for number in self._candidates(dimensions):
            piece = self._pieces[number]
            both = merged(piece.dimensions, dimensions) if piece.at >= since else None
            if both is not None and both != piece.dimensions:
                found.append((number, piece, both))
        return found

    def _candidates(self, dimensions: Dimensions) -> list[int]:
        name = next((name for name in _INDEXED if getattr(dimensions, name) is not None), None)
        if name is None:
            return list(self._pieces)
        own = self._filed.get((name, getattr(dimensions, name)), {})
        return sorted([*own, *self._filed.get((name, None), {})])


def merged(one: Dimensions, other: Dimensions) -> Dimensions | None:
    """Return who both are; None if they cannot be the same calls."""
    values: dict[str, str | None] = {}
    for name in PEOPLE:
        first, second = getattr(one, name), getattr(other, name)
        if first is not None and second is not None and first != second:
            return None
        values[name] = first if first is not None else second
    tags = tuple(dict.fromkeys((*one.tags, *other.tags)))
    return msgspec.structs.replace(one, **values, tags=tags)
