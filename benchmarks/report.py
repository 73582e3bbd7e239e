"""How figures are printed: each with the floors of the same run under it, the ratio, and the aim beside it."""

import msgspec

from benchmarks.load import LoadResult


def title(text: str) -> None:
    """Print what the rows after it are about."""
    print(f"\n{text}", flush=True)


def row(name: str, figure: str, beside: str = "") -> None:
    """Print one figure."""
    print(f"{name:<60}{figure:>14}   {beside}".rstrip(), flush=True)


def rate_row(name: str, figure: float, result: LoadResult, *, aim: float | None = None) -> None:
    """Print a figure per second that a load came to, and whether it reaches its aim."""
    beside = f"p50 {result.p50_ms:.2f} ms, p99 {result.p99_ms:.2f} ms"
    if result.failures:
        beside += f", {result.failures} FAILED"
    row(name, f"{figure:,.0f}", beside + _aim(figure, aim, f"{aim:,.0f}" if aim else ""))


def latency_row(name: str, result: LoadResult, *, aimed_p99_ms: float | None = None) -> None:
    """Print what latencies a load at a pace met, and whether all but a hundredth keep below their aim."""
    beside = f"p50 {result.p50_ms:.2f} ms, p99 {result.p99_ms:.2f} ms, p99.9 {result.p999_ms:.2f} ms"
    if result.failures:
        beside += f", {result.failures} FAILED"
    if aimed_p99_ms is not None:
        reached = "reached" if result.p99_ms < aimed_p99_ms else "MISSED"
        beside += f" (aim p99 < {aimed_p99_ms:.0f} ms: {reached})"
    row(name, f"{result.per_second:,.0f}", beside)


def floor(name: str, per_second: float, figure: float, *, aim: float | None = None) -> None:
    """Print a floor and what part of it the figure is; `aim` is the least part wanted."""
    part = figure / per_second
    row(f"  beside: {name}", f"{per_second:,.0f}", f"{part:.0%} of it" + _aim(part, aim, f"{aim:.0%}" if aim else ""))


def times(name: str, slower_us: float, ours_us: float, more: str, *, aim: float | None = None) -> None:
    """Print what somebody else takes and how many times ours that is; `aim` is the least factor wanted."""
    factor = slower_us / ours_us
    aimed = _aim(factor, aim, f"{aim:.0f}x" if aim else "")
    row(f"  beside: {name}", f"{slower_us:,.1f} us", f"{factor:.1f}x ours{aimed}; {more}")


def as_json(document: object) -> bytes:
    """Return a document as the service writes it: compact."""
    return msgspec.json.encode(document)


def _aim(figure: float, aim: float | None, text: str) -> str:
    if aim is None:
        return ""
    return f" (aim {text}: {'reached' if figure >= aim else 'MISSED'})"
