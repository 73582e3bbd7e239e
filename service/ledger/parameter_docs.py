"""Query parameters of handlers that read them from the request themselves, described for the OpenAPI document."""

from dataclasses import dataclass
from typing import ClassVar

from litestar.openapi.spec import OpenAPIType, Operation, Parameter, Reference, Schema

from service.kit.pagination import MAX_PAGE
from service.ledger.filters import FIELDS, KNOWN_VALUES

_FILTER = "{name} of the charges; repeated = any of them, a leading `!` excludes, empty = absent, `!` alone = present"
_EXACT = frozenset({"requested_model", "deployment", "served_model"})


@dataclass
class DescribedOperation(Operation):
    """An operation that brings its own query parameters."""

    described: ClassVar[tuple[Parameter, ...]] = ()

    def __post_init__(self) -> None:
        """Put the described parameters after those of the path."""
        own: list[Parameter | Reference] = list(self.described)
        self.parameters = [*(self.parameters or []), *own]


def operation_with(name: str, *parameters: Parameter) -> type[Operation]:
    """Return the operation class of a handler with these query parameters."""
    return dataclass(type(name, (DescribedOperation,), {"described": parameters}))


def text_parameter(name: str, description: str, **schema: object) -> Parameter:
    """Return a parameter that may be given once."""
    return Parameter(
        name=name,
        param_in="query",
        description=description,
        schema=Schema(type=OpenAPIType.STRING, **schema),  # type: ignore[arg-type]
    )


def limit_parameter(maximum: int = MAX_PAGE, default: int = 100) -> Parameter:
    """Return the page size."""
    return Parameter(
        name="limit",
        param_in="query",
        description="rows per page",
        schema=Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=maximum, default=default),
    )


def filter_parameters() -> tuple[Parameter, ...]:
    """Return the filters on fields of charges, and the range of time."""
    fields = tuple(
        Parameter(
            name=name,
            param_in="query",
            description=_FILTER.format(name=name)
            + (f"; one of {', '.join(sorted(KNOWN_VALUES[name]))}" if name in KNOWN_VALUES else "")
            + ("; exactly as the charge has it, case included" if name in _EXACT else ""),
            schema=Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.STRING)),
        )
        for name in FIELDS
    )
    return (
        text_parameter("from", "effective at or after this time (RFC 3339) or date; default: 30 days before `to`"),
        text_parameter("to", "effective before this time (RFC 3339) or date; default: now"),
        *fields,
        limit_parameter(),
        text_parameter("cursor", "`next_cursor` of the page before"),
    )
