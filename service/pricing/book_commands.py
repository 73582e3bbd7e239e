"""The commands of `tallygate prices` that work on price books: import, diff, list, show."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

import click
import msgspec
from msgspec.structs import replace

from service.access.repository import load_tenant
from service.audit.repository import COMMAND_LINE
from service.db.pools import PostgresPool, connected
from service.errors import NotFound, TallygateError, Unavailable
from service.kit.instants import checked_instant
from service.outbound import shown_url
from service.pricing import repository
from service.pricing.book_candidate import entries_of, read_candidate, unpacked_map
from service.pricing.book_diff import Entries, compare_books
from service.pricing.book_import import FindServed, ImportAnswer, ImportOrder, PriceBookImporter
from service.pricing.book_printing import print_diff, print_imports, print_judgement, print_price, print_report
from service.pricing.book_reading import find_entry, near_keys
from service.pricing.book_schemas import price_view
from service.pricing.import_guard import objections_to, warnings_about
from service.pricing.map_download import MapDownloader
from service.pricing.map_entry import CostMapError
from service.pricing.price_book import PriceBook
from service.pricing.repository import SHARED, ImportRow
from service.settings import PricesSettings

OpenPool = Callable[[], AbstractAsyncContextManager[PostgresPool]]

T = TypeVar("T")

_ROWS = 40
_VERSION_PREFIX = "sha256-"

_tenant_option = click.option("--tenant", help="A tenant's own book; default: the installation's.")
_rows_option = click.option(
    "--rows", default=_ROWS, show_default=True, type=click.IntRange(1), help="Longest list shown."
)


def import_command(served_models: Callable[[PostgresPool], FindServed]) -> click.Command:
    """Return `prices import`; which models were used lately is known further up in the house."""

    @click.command("import")
    @click.argument("source", metavar="FILE|URL")
    @click.option("--effective-from", help="Calls from then on are priced by it; RFC 3339 or a date, default now.")
    @click.option("--dry-run", is_flag=True, help="Show what it would change, and store nothing.")
    @click.option("--yes", "is_agreed", is_flag=True, help="Import without asking, unless something speaks against it.")
    @click.option("--accept", metavar="VERSION", help="Import this version unasked, whatever speaks against it.")
    @_tenant_option
    @_rows_option
    @click.pass_obj
    def import_book(
        open_pool: OpenPool,
        source: str,
        effective_from: str | None,
        dry_run: bool,
        is_agreed: bool,
        accept: str | None,
        tenant: str | None,
        rows: int,
    ) -> None:
        """Import a cost map (LiteLLM's JSON form, plain or compressed) as a price book, after showing what it changes.

        What was charged before stays as it is; `tallygate reprice` prices it anew.
        """

        async def run(pool: PostgresPool) -> ImportAnswer:
            start = None if effective_from is None else checked_instant(effective_from, "effective_from")
            tenant_id = await _checked_tenant(pool, tenant)
            text, origin = await _read_source(source)
            importer = PriceBookImporter(pool, find_served=served_models(pool), reload=_nothing_to_reload)
            order = ImportOrder(
                tenant_id=tenant_id, imported_by=COMMAND_LINE, effective_from=start, accept=accept, is_dry_run=True
            )
            compared = await importer.run(order, text, origin)
            _show(compared, rows)
            if dry_run:
                return compared
            if accept is None:
                _ask(compared, is_agreed=is_agreed)
            version = compared.comparison.candidate.version
            return await importer.run(replace(order, accept=version, is_dry_run=False), text, origin)

        _print_outcome(_run(open_pool, run))

    return import_book


@click.command("diff")
@click.argument("old")
@click.argument("new")
@_rows_option
@click.pass_obj
def diff_books(open_pool: OpenPool, old: str, new: str, rows: int) -> None:
    """Show what is different in NEW: each is a file (cost map or snapshot) or a version of this installation."""
    before, after = (_read_book(open_pool, source) for source in (old, new))
    diff = compare_books(before, after)
    print_diff(diff, rows=rows)
    print_judgement(objections_to(diff), warnings_about(diff, ()), rows=rows)


@click.command("list")
@_tenant_option
@_rows_option
@click.pass_obj
def list_books(open_pool: OpenPool, tenant: str | None, rows: int) -> None:
    """List price books, latest import first."""

    async def read(pool: PostgresPool) -> tuple[list[ImportRow], ImportRow | None]:
        tenant_id = await _checked_tenant(pool, tenant)
        async with connected(pool) as connection:
            now = await repository.read_clock(connection)
            found = await repository.list_imports(connection, {tenant_id, SHARED}, limit=rows)
            in_force = await repository.find_in_force(connection, tenant_id, now)
        return found, next((row for row in found if row[:3] == in_force), None)

    print_imports(*_run(open_pool, read))


@click.command("show")
@click.argument("key")
@click.option("--at", help="The book in force then; RFC 3339 or a date, default now.")
@click.option("--tenant", help="As this tenant is priced: its own book, if it has one; default: the installation's.")
@click.option(
    "--book",
    "book_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A snapshot file instead; needs no database.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the entry as `GET /v1/prices` answers it.")
@click.pass_obj
def show_price(
    open_pool: OpenPool, key: str, at: str | None, tenant: str | None, book_file: Path | None, *, as_json: bool
) -> None:
    """Print every rate of the price entry KEY in the book in force."""
    if book_file is None:
        book = _run(open_pool, lambda pool: _book_in_force(pool, tenant, at))
    elif at is not None or tenant is not None:
        raise click.UsageError("--book names the book: --at and --tenant choose another.")
    else:
        book = _opened_book(book_file.read_bytes())
    entry = find_entry(book, key)
    if entry is None:
        near = near_keys(book, key)
        hint = f"; similar: {', '.join(near)}" if near else ""
        raise click.ClickException(f"no price under {key!r} in {book.version} ({book.origin}){hint}")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(price_view(entry)), indent=2))
    else:
        print_price(entry, book.version, book.origin)


async def _book_in_force(pool: PostgresPool, tenant: str | None, at: str | None) -> PriceBook:
    instant = None if at is None else checked_instant(at, "at")
    try:
        tenant_id = await _checked_tenant(pool, tenant)
        async with connected(pool) as connection:
            instant = instant or await repository.read_clock(connection)
            row = await repository.find_in_force(connection, tenant_id, instant)
            found = {} if row is None else await repository.fetch_snapshots(connection, [row.version])
    except Unavailable as error:
        raise Unavailable(f"{error.detail} --book shows a snapshot file without it.") from error
    if row is None:
        raise NotFound(
            "There is no price book in force in this database: `tallygate serve` brings the shipped one,"
            " `tallygate prices import` another; --book shows a snapshot file."
        )
    return _opened_book(found[row.version])


def _opened_book(snapshot: bytes) -> PriceBook:
    try:
        return PriceBook.from_snapshot(snapshot)
    except CostMapError as error:
        raise click.ClickException(str(error)) from error


def _run(open_pool: OpenPool, act: Callable[[PostgresPool], Awaitable[T]]) -> T:
    """Act on an opened pool; what was refused becomes the message the command ends with."""

    async def act_on_pool() -> T:
        async with open_pool() as pool:
            return await act(pool)

    try:
        return asyncio.run(act_on_pool())
    except TallygateError as error:
        raise click.ClickException(error.detail) from error
    except CostMapError as error:
        raise click.ClickException(str(error)) from error


async def _checked_tenant(pool: PostgresPool, tenant: str | None) -> str:
    if tenant is None:
        return SHARED
    async with connected(pool) as connection:
        if await load_tenant(connection, tenant) is None:
            raise NotFound(f"There is no tenant {tenant!r}.")
    return tenant


async def _read_source(source: str) -> tuple[bytes, str]:
    """Return the JSON text of a map and where it is from."""
    settings = PricesSettings()
    if "://" in source:
        content, origin = await MapDownloader(settings).fetch(source), shown_url(source)
    else:
        content, origin = await asyncio.to_thread(_read_file, source), Path(source).name
    return unpacked_map(content, settings.max_map_bytes), origin


def _read_file(source: str) -> bytes:
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise CostMapError(f"{source} cannot be read: {error.strerror}") from error


def _read_book(open_pool: OpenPool, source: str) -> Entries:
    """Return the entries of a file, or of a version that was imported."""
    if Path(source).exists() or not source.startswith(_VERSION_PREFIX):
        try:
            text = unpacked_map(_read_file(source), PricesSettings().max_map_bytes)
            return read_candidate(text, origin=source).entries
        except CostMapError as error:
            raise click.ClickException(str(error)) from error

    async def fetch(pool: PostgresPool) -> Entries:
        async with connected(pool) as connection:
            found = await repository.fetch_snapshots(connection, [source])
        if source not in found:
            raise NotFound(f"There is no price book {source}.")
        return entries_of(found[source])

    return _run(open_pool, fetch)


def _show(compared: ImportAnswer, rows: int) -> None:
    comparison = compared.comparison
    print_report(comparison.candidate.report)
    if comparison.candidate.repeated_models:
        click.echo(f"stated more than once, the last counts: {', '.join(comparison.candidate.repeated_models[:rows])}")
    base = comparison.base
    if base is not None:
        click.echo(f"compared with {base.version}, in force at {comparison.effective_from.isoformat()}")
    print_diff(comparison.diff, rows=rows)
    print_judgement(comparison.objections, comparison.warnings, rows=rows)


def _ask(compared: ImportAnswer, *, is_agreed: bool) -> None:
    """Let go on what was agreed to. Raises click.Abort, or ClickException where nobody can be asked."""
    version = compared.comparison.candidate.version
    if compared.comparison.objections:
        if is_agreed:
            raise click.ClickException(f"not imported: look at the above, and accept it by --accept {version}")
        click.confirm(f"Import {version} nevertheless?", abort=True)
    elif not is_agreed:
        click.confirm(f"Import {version}?", default=True, abort=True)


def _print_outcome(answer: ImportAnswer) -> None:
    comparison = answer.comparison
    version, start = comparison.candidate.version, comparison.effective_from.isoformat()
    match answer.outcome:
        case "compared":
            click.echo("nothing was stored (--dry-run)")
        case "unchanged":
            click.echo(f"{version} is in force already: nothing to do")
        case "imported":
            click.echo(f"imported: {version} is in force from {start}")
            if not answer.is_known_everywhere:
                click.echo("some server has not taken it over yet; each asks every 30 s", err=True)
            repriceable = answer.repriceable_range
            if repriceable is not None:
                first, last = (instant.isoformat() for instant in repriceable)
                click.echo(f"calls from {first} to {last} were priced by another book: see `tallygate reprice`")


async def _nothing_to_reload() -> None:
    """Do nothing: this process prices nothing."""
