"""`tallygate prices`: make the compact snapshot of a cost map, and show what a model costs by one."""

from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.table import Table

from service.identity.models import PriceCandidate
from service.pricing.cost_map import ImportReport, make_snapshot, read_cost_map
from service.pricing.map_entry import CostMapError, MapEntry
from service.pricing.model_price import ModelPrice
from service.pricing.price_book import ROUTER_KEYS, PriceBook
from service.pricing.shipped import shipped_snapshot

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def prices() -> None:
    """Price books: what models cost, and where that is from."""


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
        entries = read_cost_map(cost_map.read_bytes())
        compressed, report = make_snapshot(entries, origin=origin or cost_map.name, licence=licence)
    except CostMapError as error:
        raise click.ClickException(str(error)) from error
    output.write_bytes(compressed)
    _print_report(report)
    click.echo(f"{output}: {len(compressed):,} bytes")


@prices.command()
@click.argument("key")
@click.option("--book", "book_file", type=_FILE, help="A snapshot file; default: the one shipped with this version.")
@click.option("--json", "as_json", is_flag=True, help="Print the entry as JSON.")
def show(key: str, book_file: Path | None, *, as_json: bool) -> None:
    """Print every rate of the price entry KEY."""
    try:
        book = PriceBook.from_snapshot(book_file.read_bytes() if book_file else shipped_snapshot())
    except CostMapError as error:
        raise click.ClickException(str(error)) from error
    price = _find(book, key)
    if price is None:
        raise click.ClickException(f"no price under {key!r} in {book.version} ({book.origin})")
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(_as_document(book, price.entry)), indent=2))
    else:
        _print_price(book, price)


def _find(book: PriceBook, key: str) -> ModelPrice | None:
    if key in ROUTER_KEYS:
        return book.find(key)
    found = book.find_price((PriceCandidate(name=key),))
    return None if found is None else found.price


def _rates(entry: MapEntry) -> list[tuple[str, str, str, str]]:
    """Return (token kind, prompt length, tier, USD per million tokens) of every rate, in the order of the map."""
    sign = ">=" if entry.provider == "xai" else ">"
    flat = [
        (kind, f"{sign} {above:,}" if above else "", tier, rate) for (kind, above, tier), rate in entry.rates.items()
    ]
    for row in entry.context_tiers:
        flat += [(kind, f"<= {row.up_to_tokens:,}", tier, rate) for (kind, _, tier), rate in row.rates.items()]
    if entry.off_peak is not None:
        flat += [(kind, "", "off-peak", rate) for kind, rate in entry.off_peak.rates.items()]
    return [(kind, length, tier or "standard", f"{rate.scaleb(6).normalize():f}") for kind, length, tier, rate in flat]


def _as_document(book: PriceBook, entry: MapEntry) -> dict[str, object]:
    names = ("kind", "prompt_tokens", "tier", "usd_per_million_tokens")
    return {
        "key": entry.key,
        "provider": entry.provider,
        "mode": entry.mode,
        "max_output_tokens": entry.max_output_tokens,
        "price_book_version": book.version,
        "origin": book.origin,
        "is_priced_by_tokens": entry.is_priced_by_tokens,
        "rates": [dict(zip(names, rate, strict=True)) for rate in _rates(entry)],
        "multipliers": {name: str(factor) for name, factor in entry.multipliers.items()},
    }


def _print_price(book: PriceBook, price: ModelPrice) -> None:
    entry = price.entry
    table = Table(title=entry.key)
    for heading in ("tokens", "prompt length", "tier"):
        table.add_column(heading)
    table.add_column("USD per million", justify="right")
    for row in _rates(entry):
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(f"{book.version}\n{book.origin}", highlight=False, soft_wrap=True)
    for name, factor in entry.multipliers.items():
        console.print(f"x {factor} for {name}")
    if not entry.is_priced_by_tokens:
        console.print("Not priced by tokens: the gateway's own figure is used.")


def _print_report(report: ImportReport) -> None:
    by_tokens, by_units = report.models_priced_by_tokens, report.models_priced_by_other_units
    click.echo(
        f"version {report.version}: {report.models:,} models, {by_tokens:,} priced by tokens, "
        f"{by_units:,} by other units, {report.models_without_price:,} without a price"
    )
    click.echo(f"understood: {len(report.understood_keys)} keys, {sum(report.understood_keys.values()):,} values")
    if report.not_charged_keys:
        click.echo("understood, but no part of a call's price:")
        for key, known in report.not_charged_keys.items():
            click.echo(f"  {key}: {known.count}. {known.reason}")
    if report.not_understood_keys:
        click.echo("not understood, and no part of any price:")
        for key, count in report.not_understood_keys.items():
            click.echo(f"  {key}: {count}")
