"""How Python's collector of cycles runs in a server process: rarely, and never over what stays for good."""

import gc

# A request makes some hundreds of objects and drops them without the collector. By default it would run every 700.
_YOUNG_OBJECTS = 20_000
_YOUNG_RUNS = 20
_MIDDLE_RUNS = 20


def settle() -> None:
    """Take what is loaded by now out of every later collection, and make collections rarer.

    For the end of a start. The prices alone are some hundred thousand objects: looking at them again and again took an
    eighth of the processor, and was the longest pause a check could meet.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _YOUNG_RUNS, _MIDDLE_RUNS)
