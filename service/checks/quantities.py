"""What a caller says a call will use beside plain text: names and bounds of `quantities` in a body. Pure."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from service.errors import InvalidInput
from service.kit.money import AmountError, parse_amount
from service.pricing.units import CALL_SECONDS, OUTPUT_PIXELS, REQUESTS, UNIT_OF
from service.pricing.worst_case import PROMPT_PARTS, Declared

DURATION: Final = "duration_seconds"
# What is worked out from the rest is not to be declared.
UNITS: Final = frozenset(UNIT_OF) - {CALL_SECONDS, OUTPUT_PIXELS, REQUESTS}

_MOST: Final = Decimal(10) ** 12


def read_declared(quantities: Mapping[str, str]) -> Declared:
    """Return units and parts of the prompt. Raises InvalidInput with the path of what cannot be taken."""
    units: list[tuple[str, Decimal]] = []
    parts: list[tuple[str, int]] = []
    for name, quantity in quantities.items():
        field = f"quantities.{name[:100]}"
        checked = _checked(quantity, field)
        if name in PROMPT_PARTS:
            if checked != checked.to_integral_value():
                raise InvalidInput("There are only whole tokens.", field=field)
            parts.append((name, int(checked)))
        elif name in UNITS:
            units.append((name, checked))
        elif name != DURATION:
            known = ", ".join(sorted({*UNITS, *PROMPT_PARTS, DURATION}))
            raise InvalidInput(f"Nothing is priced by this; known are {known}.", code="unknown_quantity", field=field)
    return Declared(
        prompt_parts=tuple([part for part in parts if part[1]]), units=tuple([unit for unit in units if unit[1]])
    )


def read_duration(quantities: Mapping[str, str]) -> Decimal | None:
    """Return how long the call takes by the clock, in seconds; None when it is not said. Raises InvalidInput."""
    duration = quantities.get(DURATION)
    return None if duration is None else _checked(duration, f"quantities.{DURATION}")


def _checked(quantity: str, field: str) -> Decimal:
    try:
        checked = parse_amount(quantity)
    except AmountError as error:
        raise InvalidInput(f"Not a quantity: {error}.", field=field) from error
    if not 0 <= checked <= _MOST:
        raise InvalidInput("A quantity is not negative.", field=field)
    return checked
