"""Query parameters by name. Pure."""

from collections.abc import Mapping, Sequence

from service.errors import InvalidInput

Parameters = Mapping[str, Sequence[str]]


def refuse_unknown(parameters: Parameters, known: Sequence[str]) -> None:
    """Raise InvalidInput (`unknown_parameter`) for the first parameter that is none of the known ones."""
    for name in parameters:
        if name not in known:
            raise InvalidInput(
                f"There is no parameter {name[:100]!r} here; known are {', '.join(sorted(known))}.",
                code="unknown_parameter",
                field=name[:100],
            )
