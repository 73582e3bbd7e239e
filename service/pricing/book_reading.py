"""Answers which price books there are and what a model costs by the one in force at an instant, for one tenant."""

import asyncio
from datetime import datetime
from difflib import get_close_matches
from typing import Final

import msgspec

from service.db.pools import PostgresPool, connected
from service.errors import NotFound
from service.identity.models import PriceCandidate
from service.pricing import repository
from service.pricing.map_entry import MapEntry
from service.pricing.price_book import ROUTER_KEYS, PriceBook
from service.pricing.registry import PriceBooks
from service.pricing.repository import SHARED, ImportPosition, ImportRow, VersionRow

_NEAR_NAMES: Final = 5
# Comparing with longer names than any model has takes long and finds nothing.
_LONGEST_COMPARED: Final = 128


class PricePage(msgspec.Struct, frozen=True):
    """Prices of one book in the order of their keys; `next_key` is where the next page begins."""

    row: VersionRow
    origin: str
    entries: list[MapEntry]
    next_key: str | None


class PriceBookReader:
    """Reads books and prices."""

    def __init__(self, pool: PostgresPool, books: PriceBooks) -> None:
        self._pool = pool
        self._books = books

    async def list_imports(self, tenant_id: str, *, after: ImportPosition | None, limit: int) -> list[ImportRow]:
        """Return the imports of the tenant and of the installation, the latest first."""
        async with connected(self._pool) as connection:
            return await repository.list_imports(connection, {tenant_id, SHARED}, after=after, limit=limit)

    async def get_imports(self, tenant_id: str, version: str, *, limit: int) -> list[ImportRow]:
        """Return how often a version was imported, the latest first. Raises NotFound."""
        async with connected(self._pool) as connection:
            rows = await repository.list_imports(connection, {tenant_id, SHARED}, version=version, limit=limit)
        if not rows:
            raise NotFound(f"There is no price book {version[:64]!r}.")
        return rows

    def row_at(self, tenant_id: str, instant: datetime) -> VersionRow:
        """Return the version in force for the tenant at the instant. Raises Unavailable."""
        return self._books.row_at(tenant_id, instant)

    async def get_price(self, tenant_id: str, key: str, instant: datetime) -> PricePage:
        """Return the price under a key, whatever its case. Raises NotFound with similar names."""
        row, book = self._books.row_at(tenant_id, instant), self._books.at(tenant_id, instant)
        entry = find_entry(book, key)
        if entry is None:
            near = await asyncio.to_thread(near_keys, book, key)
            hint = f" Similar: {', '.join(near)}." if near else ""
            raise NotFound(f"There is no price under {key[:_LONGEST_COMPARED]!r} in {book.version}.{hint}")
        return PricePage(row, book.origin, [entry], None)

    async def list_prices(
        self, tenant_id: str, instant: datetime, *, model: str | None, start_key: str, limit: int
    ) -> PricePage:
        """Return a page of prices whose keys contain `model`, whatever its case."""
        row, book = self._books.row_at(tenant_id, instant), self._books.at(tenant_id, instant)
        return await asyncio.to_thread(_page, row, book, (model or "").lower(), start_key, limit)


def find_entry(book: PriceBook, key: str) -> MapEntry | None:
    """Return the entry under a key, upper and lower case told apart only if both are in the book."""
    if key in ROUTER_KEYS:
        price = book.find(key)
    else:
        found = book.find_price((PriceCandidate(name=key),))
        price = None if found is None else found.price
    return None if price is None else price.entry


def near_keys(book: PriceBook, key: str) -> list[str]:
    """Return keys that may have been meant: without a provider before it, containing this one, then spelled alike."""
    wanted = key.lower()[:_LONGEST_COMPARED]
    parts = wanted.split("/")
    shorter = [entry.key for number in range(1, len(parts)) if (entry := find_entry(book, "/".join(parts[number:])))]
    containing = sorted((name for name in book if wanted in name.lower()), key=lambda name: (len(name), name))
    alike = get_close_matches(wanted, list(book), n=_NEAR_NAMES, cutoff=0.7)
    return list(dict.fromkeys([*shorter, *containing[:_NEAR_NAMES], *alike]))[:_NEAR_NAMES]


def _page(row: VersionRow, book: PriceBook, model: str, start_key: str, limit: int) -> PricePage:
    keys = sorted(key for key in book if key >= start_key and model in key.lower())
    found = [price.entry for price in map(book.find, keys[:limit]) if price is not None]
    return PricePage(row, book.origin, found, keys[limit] if len(keys) > limit else None)
