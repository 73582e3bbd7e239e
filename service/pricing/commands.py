"""`tallygate prices`: snapshots of cost maps, what a model costs, and the price books of an installation.

The command line above this group puts an `OpenPool` into `ctx.obj`. Whoever can reach the database may import here,
for the whole installation or for one tenant.
"""

from pathlib import Path

import click

from service.pricing.book_candidate import unpacked_map
from service.pricing.book_commands import diff_books, list_books, show_price
from service.pricing.book_printing import print_report
from service.pricing.cost_map import make_snapshot, read_cost_map
from service.pricing.map_entry import CostMapError
from service.settings import PricesSettings

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def prices() -> None:
    """Price books: what models cost, and where that is from."""


prices.add_command(diff_books)
prices.add_command(list_books)
prices.add_command(show_price)


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
