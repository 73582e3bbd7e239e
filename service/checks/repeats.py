"""Names of the holds under one id that end clients choose: `x`, then `x#2`, `x#3`…; each event of `x` ends one. Pure.

Where a repeat found the hold of another call it would pass for free; so each call gets a hold of its own.
"""

from typing import Final

# Beyond so many at once a hold gets a name no event finds, and ends by its time. lua/publish_and_settle.lua knows it.
MOST_REPEATS: Final = 16


def repeat_names(reservation_id: str) -> tuple[str, ...]:
    """Return the names in the order they are taken."""
    return (reservation_id, *[f"{reservation_id}#{number}" for number in range(2, MOST_REPEATS + 1)])
