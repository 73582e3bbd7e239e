"""`make bench`: all parts, or those named: `make bench ARGS="rating checks"`; `checks-matrix` only when it is named.

Every part is a module with a `main` and can be run by itself. Parts start servers and engines of their own. The load
generator shares the machine with them: read the ratios to the floors of the same run, not the figures. Servers write no
access log, as the empty handler does not. BENCH_SECONDS says how long each load lasts.
"""

import sys
from importlib import import_module

PARTS = {
    "ingest": "benchmarks.ingest",
    "checks": "benchmarks.checks",
    "rating": "benchmarks.rating",
    "reprice": "benchmarks.repricing",
}
# These take their time.
WHEN_NAMED = {"checks-matrix": "benchmarks.checks_matrix"}


def main(names: list[str]) -> None:
    """Run the named parts, or all."""
    parts = PARTS | WHEN_NAMED
    unknown = [name for name in names if name not in parts]
    if unknown:
        raise SystemExit(f"There is no part {', '.join(unknown)}; there are {', '.join(parts)}.")
    for name in names or PARTS:
        import_module(parts[name]).main()


if __name__ == "__main__":
    main(sys.argv[1:])
