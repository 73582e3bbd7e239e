"""Wire shapes of price books and prices."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from service.identity.repricing_offer import RepricingOffer
from service.kit.money import format_amount
from service.pricing.book_import import Comparison, ImportAnswer
from service.pricing.book_reading import PricePage
from service.pricing.book_report import BookReport
from service.pricing.import_guard import Objection
from service.pricing.map_entry import MapEntry
from service.pricing.price_listing import ListedRate, ListedWindow, list_rates, list_windows
from service.pricing.repository import SHARED, ImportRow, VersionRow

Scope = Literal["tenant", "installation"]


class UrlSource(msgspec.Struct, forbid_unknown_fields=True):
    """Where a cost map is to be downloaded."""

    url: str


class InstantRange(msgspec.Struct, rename={"start": "from", "end": "to"}):
    """Instants from `from`, inclusive, to `to`, exclusive."""

    start: datetime
    end: datetime


class ImportView(msgspec.Struct, kw_only=True):
    """What became of a map.

    `effective_to`: when another version that is known already replaces it. `objections`: why it is not accepted unless
    `accept` names its version. `repriceable`: what was priced by another book before, to be given to
    `POST /v1/repricings`; `repricing_offers`: what of it had no price and has one now (null = not known).
    `is_known_everywhere` false: some process may go on with the former prices for some seconds.
    """

    outcome: Literal["imported", "unchanged", "compared"]
    scope: Scope
    version: str
    origin: str
    effective_from: datetime
    effective_to: datetime | None
    imported_at: datetime | None
    is_known_everywhere: bool
    repriceable: InstantRange | None
    repricing_offers: list[RepricingOffer] | None
    objections: list[Objection]
    report: BookReport


class PriceBookView(msgspec.Struct, kw_only=True):
    """A version as it was imported; of the installation's, who did is shown to operators only."""

    version: str
    scope: Scope
    effective_from: datetime
    imported_at: datetime
    imported_by: str | None
    origin: str
    models: int | None
    is_in_force: bool


class PriceBookList(msgspec.Struct):
    """A page of versions."""

    price_books: list[PriceBookView]
    next_cursor: str | None


class PriceBookImports(msgspec.Struct):
    """One version, each time it was imported, and the report as it was made at the latest time."""

    imports: list[PriceBookView]
    report: dict[str, Any]


class PriceView(msgspec.Struct, kw_only=True):
    """Every rate of one entry; `multipliers` apply to calls of that kind, so many images of each prompt are free."""

    key: str
    provider: str
    mode: str
    max_output_tokens: int | None
    rates: list[ListedRate]
    off_peak_windows: list[ListedWindow]
    multipliers: dict[str, str]
    free_input_images: int
    is_search_per_request: bool
    free_searches: str | None


class PriceList(msgspec.Struct, kw_only=True):
    """Prices of the book in force at an instant."""

    at: datetime
    price_book_version: str
    scope: Scope
    effective_from: datetime
    origin: str
    prices: list[PriceView]
    next_cursor: str | None


def scope_of(tenant_id: str) -> Scope:
    """Return whose book it is."""
    return "installation" if tenant_id == SHARED else "tenant"


def import_view(answer: ImportAnswer, tenant_id: str, offers: list[RepricingOffer] | None) -> ImportView:
    """Return what became of a map for the wire."""
    comparison: Comparison = answer.comparison
    repriceable = answer.repriceable_range
    return ImportView(
        outcome=answer.outcome,
        scope=scope_of(tenant_id),
        version=comparison.candidate.version,
        origin=comparison.candidate.origin,
        effective_from=comparison.effective_from,
        effective_to=comparison.effective_to,
        imported_at=answer.imported_at,
        is_known_everywhere=answer.is_known_everywhere,
        repriceable=None if repriceable is None else InstantRange(*repriceable),
        repricing_offers=offers,
        objections=list(comparison.objections),
        report=answer.report,
    )


def price_book_view(row: ImportRow, in_force: VersionRow, *, shows_importer: bool) -> PriceBookView:
    """Return a version for the wire."""
    content = row.report.get("content", {})
    return PriceBookView(
        version=row.version,
        scope=scope_of(row.tenant_id),
        effective_from=row.effective_from,
        imported_at=row.imported_at,
        imported_by=row.imported_by if shows_importer else None,
        origin=row.origin,
        models=content.get("models"),
        is_in_force=(row.tenant_id, row.version, row.effective_from) == tuple(in_force),
    )


def price_list(page: PricePage, at: datetime, next_cursor: str | None) -> PriceList:
    """Return prices for the wire."""
    return PriceList(
        at=at,
        price_book_version=page.row.version,
        scope=scope_of(page.row.tenant_id),
        effective_from=page.row.effective_from,
        origin=page.origin,
        prices=[price_view(entry) for entry in page.entries],
        next_cursor=next_cursor,
    )


def price_view(entry: MapEntry) -> PriceView:
    """Return the rates of one entry for the wire."""
    return PriceView(
        key=entry.key,
        provider=entry.provider,
        mode=entry.mode,
        max_output_tokens=entry.max_output_tokens,
        rates=list_rates(entry),
        off_peak_windows=list_windows(entry),
        multipliers={name: format_amount(factor) for name, factor in entry.multipliers.items()},
        free_input_images=entry.free_input_images,
        is_search_per_request=entry.is_search_per_request,
        free_searches=entry.free_searches,
    )
