"""`/v1/price-books` and `/v1/prices`: importing price books, and what a model costs at an instant."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import FromPath, QueryParameter

from service.access.guards import requires
from service.access.tokens import Caller
from service.errors import Forbidden, InvalidInput, MalformedBody
from service.identity.repricing_offer import OfferFinder
from service.kit import clock
from service.kit.body import BodyCollector, is_gzip
from service.kit.instants import checked_instant, parse_instant
from service.kit.pagination import decode_cursor, encode_cursor, invalid_cursor, page_limit
from service.outbound import shown_url
from service.pricing.book_import import ImportOrder, PriceBookImporter
from service.pricing.book_reading import PriceBookReader
from service.pricing.book_schemas import (
    ImportView,
    PriceBookImports,
    PriceBookList,
    PriceList,
    Scope,
    UrlSource,
    import_view,
    price_book_view,
    price_list,
)
from service.pricing.map_download import MapDownloader
from service.pricing.repository import SHARED, ImportPosition
from service.problems import problem_responses

_LONGEST_URL_BODY = 4096
_LISTED_IMPORTS = 100

_Limit = Annotated[str | None, QueryParameter(description="Rows of a page, 1 to 1000 (default 100).")]
_Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")]
_From = Annotated[
    str | None, QueryParameter(description="Calls from then on are priced by it; RFC 3339 or a date, default now.")
]
_DryRun = Annotated[bool, QueryParameter(description="Only compare and report: nothing is stored.")]
_Accept = Annotated[
    str | None,
    QueryParameter(
        description="The version that was looked at: only that one is imported, whatever the guard objects."
    ),
]
_Scope = Annotated[
    Scope,
    QueryParameter(
        name="scope", description="`installation`: for all tenants without a book of their own; operators only."
    ),
]
_Key = Annotated[str | None, QueryParameter(description="One price key, whatever its case.")]
_Model = Annotated[str | None, QueryParameter(description="Only keys that contain this, whatever its case.")]
_At = Annotated[str | None, QueryParameter(description="By the book in force then; RFC 3339 or a date, default now.")]


@dataclass
class _ImportOperation(Operation):
    """Describes the body, which no type of the handler does."""

    request_body: RequestBody | None = field(
        default_factory=lambda: RequestBody(
            required=True,
            description=(
                "A model-cost map in LiteLLM's JSON form, or the address of one. "
                "`Content-Encoding: gzip` is understood."
            ),
            content={
                "application/json": OpenAPIMediaType(
                    schema=Schema(
                        one_of=[
                            Schema(
                                type=OpenAPIType.OBJECT,
                                description="Entries by the name of the model.",
                                additional_properties=Schema(type=OpenAPIType.OBJECT),
                            ),
                            Schema(
                                type=OpenAPIType.OBJECT,
                                properties={"url": Schema(type=OpenAPIType.STRING)},
                                required=["url"],
                            ),
                        ]
                    )
                )
            },
        )
    )


class PriceBookController(Controller):
    """Price books of the caller's tenant and of the installation."""

    path = "/v1/price-books"
    tags = ("prices",)

    @post(
        guards=[requires("admin")],
        request_max_body_size=None,
        operation_id="import_price_book",
        operation_class=_ImportOperation,
        summary="Import a cost map as a price book, or see what it would change",
        responses={
            201: ResponseSpec(data_container=ImportView, description="Imported", generate_examples=False),
            200: ResponseSpec(
                data_container=ImportView, description="Compared only, or in force already", generate_examples=False
            ),
            **problem_responses(400, 401, 403, 409, 413, 422, 503),
        },
    )
    async def import_price_book(
        self,
        request: Request[Any, Any, State],
        caller: NamedDependency[Caller],
        price_book_importer: NamedDependency[PriceBookImporter],
        map_downloader: NamedDependency[MapDownloader],
        offer_finder: NamedDependency[OfferFinder],
        effective_from: _From = None,
        dry_run: _DryRun = False,
        accept: _Accept = None,
        book_scope: _Scope = "tenant",
    ) -> Response[ImportView]:
        """Bring a map into force; what was charged before stays as it is and is offered for repricing.

        A map that would lose or shift prices wholesale is refused (`price_book_not_accepted`) unless `accept` names its
        version. Without `scope=installation` the book is the tenant's own: it comes before the installation's from
        `effective_from` on, whole.
        """
        if book_scope == "installation" and not caller.is_operator:
            raise Forbidden("Only an operator's token imports prices for the whole installation.", field="scope")
        order = ImportOrder(
            tenant_id=SHARED if book_scope == "installation" else caller.tenant_id,
            imported_by=caller.author,
            effective_from=None if effective_from is None else checked_instant(effective_from, "effective_from"),
            accept=accept,
            is_dry_run=dry_run,
        )
        body = await _read_body(request, map_downloader.limit_bytes)
        source = _url_source(body)
        text, origin = (body, f"posted by {caller.author}")
        if source is not None:
            text, origin = await map_downloader.fetch(source.url), shown_url(source.url)
        answer = await price_book_importer.run(order, text, origin)
        if answer.outcome != "imported":
            return Response(import_view(answer, order.tenant_id, []), status_code=200)
        offers = await offer_finder.find(caller.tenant_id)
        return Response(import_view(answer, order.tenant_id, offers), status_code=201)

    @get(
        guards=[requires("read")],
        operation_id="list_price_books",
        summary="List price books, latest import first",
        responses=problem_responses(400, 401, 403, 422, 503),
    )
    async def list_price_books(
        self,
        caller: NamedDependency[Caller],
        price_book_reader: NamedDependency[PriceBookReader],
        limit: _Limit = None,
        cursor: _Cursor = None,
    ) -> PriceBookList:
        """Return a page of versions, the tenant's own and the installation's."""
        size = page_limit(limit)
        after = None if cursor is None else _decode_import_position(cursor)
        rows = await price_book_reader.list_imports(caller.tenant_id, after=after, limit=size + 1)
        in_force = price_book_reader.row_at(caller.tenant_id, clock.utc_now())
        views = [
            price_book_view(row, in_force, shows_importer=row.tenant_id != SHARED or caller.is_operator)
            for row in rows[:size]
        ]
        last = rows[size - 1] if len(rows) > size else None
        position = None if last is None else [last.imported_at.isoformat(), last.tenant_id, last.version]
        return PriceBookList(views, None if position is None else encode_cursor(position))

    @get(
        "/{version:str}",
        guards=[requires("read")],
        operation_id="get_price_book",
        summary="One version, each time it was imported, with its latest report",
        responses=problem_responses(401, 403, 404, 503),
    )
    async def get_price_book(
        self,
        version: FromPath[str],
        caller: NamedDependency[Caller],
        price_book_reader: NamedDependency[PriceBookReader],
    ) -> PriceBookImports:
        """Return the imports of a version and the report of the latest."""
        rows = await price_book_reader.get_imports(caller.tenant_id, version, limit=_LISTED_IMPORTS)
        in_force = price_book_reader.row_at(caller.tenant_id, clock.utc_now())
        views = [
            price_book_view(row, in_force, shows_importer=row.tenant_id != SHARED or caller.is_operator) for row in rows
        ]
        return PriceBookImports(views, rows[0].report)


class PriceController(Controller):
    """Prices by the book in force for the caller's tenant."""

    path = "/v1/prices"
    tags = ("prices",)

    @get(
        guards=[requires("read")],
        operation_id="list_prices",
        summary="What models cost at an instant",
        responses=problem_responses(400, 401, 403, 404, 422, 503),
    )
    async def list_prices(
        self,
        caller: NamedDependency[Caller],
        price_book_reader: NamedDependency[PriceBookReader],
        key: _Key = None,
        model: _Model = None,
        at: _At = None,
        limit: _Limit = None,
        cursor: _Cursor = None,
    ) -> PriceList:
        """Return every rate of one key, or a page of prices by name; 404 names similar keys."""
        instant = clock.utc_now() if at is None else checked_instant(at, "at")
        size = page_limit(limit)
        if key is not None:
            if model is not None or cursor is not None:
                raise InvalidInput("key names one price: leave out model and cursor.", field="key")
            return price_list(await price_book_reader.get_price(caller.tenant_id, key, instant), instant, None)
        start_key = "" if cursor is None else _decode_key(cursor)
        page = await price_book_reader.list_prices(
            caller.tenant_id, instant, model=model, start_key=start_key, limit=size
        )
        return price_list(page, instant, None if page.next_key is None else encode_cursor([page.next_key]))


async def _read_body(request: Request[Any, Any, State], limit_bytes: int) -> bytes:
    """Return the body, inflated. Raises BodyTooLarge, MalformedBody."""
    collector = BodyCollector(limit_bytes, is_gzip=is_gzip(request.headers.get("content-encoding", "")))
    async for chunk in request.stream():
        for step, _ in enumerate(collector.add(chunk)):
            if step > 0:
                await asyncio.sleep(0)
    return bytes(collector.content())


def _url_source(body: bytes) -> UrlSource | None:
    """Return the address a body names instead of being a map itself. Raises MalformedBody when there is nothing."""
    if not body.strip():
        raise MalformedBody("The body is a cost map, or names the address of one.")
    if len(body) > _LONGEST_URL_BODY:
        return None
    try:
        return msgspec.json.decode(body, type=UrlSource)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _decode_import_position(cursor: str) -> ImportPosition:
    imported_at, tenant_id, version = decode_cursor(cursor, length=3)
    if not all(isinstance(text, str) and "\x00" not in text for text in (imported_at, tenant_id, version)):
        raise invalid_cursor()
    instant = parse_instant(imported_at)
    if instant is None:
        raise invalid_cursor()
    return ImportPosition(instant, tenant_id, version)


def _decode_key(cursor: str) -> str:
    (key,) = decode_cursor(cursor, length=1)
    if not isinstance(key, str):
        raise invalid_cursor()
    return key
