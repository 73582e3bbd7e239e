"""`tallygate prices`: snapshots of cost maps, what a model costs, and the price books of an installation.

The command line above this group puts an `OpenPool` into `ctx.obj`. Whoever can reach the database may import here,
for the whole installation or for one tenant.
"""

from pathlib import Path

import click
import msgspec

from service.pricing.book_candidate import unpacked_map
from service.pricing.book_commands import diff_books, list_books
from service.pricing.book_printing import print_price, print_report
from service.pricing.book_reading import find_entry, near_keys
from service.pricing.book_schemas import price_view
from service.pricing.cost_map import make_snapshot, read_cost_map
from service.pricing.map_entry import CostMapError
from service.pricing.price_book import PriceBook
from service.pricing.shipped import shipped_snapshot
from service.settings import PricesSettings

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def prices() -> None:
    """Price books: what models cost, and where that is from."""


prices.add_command(diff_books)
prices.add_command(list_books)


@prices.command()
@click.argument("cost_map", metavar="MAP", type=_FILE)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="File to write.")
@click.option("--origin", help="Where the map is from; default: its file name.")
@click.option("--licence-file", type=_FILE, help="Licence text of the map, kept inside the snapshot.")
def snapshot(cost_map: Path, output: Path, origin: str | None, licence_file: Path | None) -> None:
    """Write the price-relevant part of MAP (LiteLLM's JSON form), compressed, and report what rating understands.

    The same map always gives the same version.
    """
    licence = licence_file.read_text(encoding="utf-8") if licence_file else ""
    try:
        entries = read_cost_map(unpacked_map(cost_map.read_bytes(), PricesSettings().max_map_bytes))
        compressed, report = make_snapshot(entries, origin=origin or cost_map.name, licence=licence)
    except CostMapError as error:
        raise click.ClickException(str(error)) from error
    output.write_bytes(compressed)
    print_report(report)
    click.echo(f"{output}: {len(compressed):,} bytes")


@prices.command()
@click.argument("key")
@click.option("--book", "book_file", type=_FILE, help="A snapshot file; default: the one shipped with this version.")
@click.option("--json", "as_json", is_flag=True, help="Print the entry as `GET /v1/prices` answers it.")
def show(key: str, book_file: Path | None, *, as_json: bool) -> None:
    """Print every rate of the price entry KEY."""
    try:
        book = PriceBook.from_snapshot(book_file.read_bytes() if book_file else shipped_snapshot())
    except CostMapError as error:
        raise click.ClickException(str(error)) from error
    entry = find_entry(book, key)
    if entry is None:
        near = near_keys(book, key)
        hint = f"; similar: {', '.join(near)}" if near else ""
        raise click.ClickException(f"no price under {key!r} in {book.version} ({book.origin}){hint}")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(price_view(entry)), indent=2))
    else:
        print_price(entry, book.version, book.origin)
