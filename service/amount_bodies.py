"""JSON bodies of controllers that leave decoding to the framework: read as they are written.

The framework decodes a body without types and converts it leniently: a number would be a float by then, "0" a switch
that is off, and of a name given twice one value would be lost. `ExactRequest` reads a body as the type its handler
declares instead: `AmountText` keeps the text of numbers, a text is no number and no switch, a name is given once.
"""

import json
import re
from functools import cache
from typing import Any, Final, Self

import msgspec
from litestar import Request
from litestar.exceptions import SerializationException, ValidationException
from litestar.openapi.spec import OpenAPIType, Schema
from litestar.plugins import OpenAPISchemaPlugin
from litestar.typing import FieldDefinition

from service.errors import MalformedBody
from service.kit.money import AmountText

_MOST_NAME_CHARACTERS: Final = 100
_PATH: Final = re.compile(r" - at `\$\.?(?P<field>[^`]+)`$")


class WrittenNumber(float):
    """A number that is not whole, in a field of any type, and how it was written."""

    def __new__(cls, text: str) -> Self:
        """Keep the text beside the number."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str


class ExactRequest(Request[Any, Any, Any]):
    """A request whose JSON is read strictly, as the type of the handler's `data`."""

    async def json(self) -> Any:
        """Return the decoded body; of none, what null is. Raises ValidationException, SerializationException."""
        body = await self.body() or b"null"
        declared = self.route_handler.parsed_data_field
        try:
            decoded = _decoder_of(Any if declared is None else declared.annotation).decode(body)
        except msgspec.ValidationError as error:
            raise _refusal(str(error)) from error
        except msgspec.DecodeError as error:
            raise SerializationException(str(error)) from error
        _refuse_repeats(body)
        return decoded


@cache  # one per handler
def _decoder_of(declared: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(declared, dec_hook=read_amount, float_hook=WrittenNumber)


def _refuse_repeats(body: bytes) -> None:
    try:
        json.loads(body, object_pairs_hook=_refuse_repeated, parse_int=str, parse_float=str)
    except RecursionError as error:
        raise MalformedBody("The body is nested too deep.") from error


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) == len(dict(pairs)):
        return
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            shown = name[:_MOST_NAME_CHARACTERS]
            raise _refusal(f"{shown!r} is given twice", field=shown)
        seen.add(name)


def _refusal(message: str, field: str = "data") -> ValidationException:
    """Return what the framework raises for a body. The message may end in a path, as msgspec writes it."""
    found = _PATH.search(message)
    if found is not None:
        message, field = message[: found.start()], found["field"]
    return ValidationException(message, extra=[{"message": message, "key": field, "source": "body"}])


def read_amount(kind: type, value: Any) -> AmountText:
    """Return the text of an amount, as a hook of msgspec. Raises ValueError for what is neither text nor number."""
    if kind is not AmountText:
        raise NotImplementedError(kind)
    if isinstance(value, WrittenNumber):
        return AmountText(value.text)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("Expected an amount, as text or number")  # noqa: TRY004 — msgspec adds the path to a ValueError
    return AmountText(value)


class AmountSchemaPlugin(OpenAPISchemaPlugin):
    """Describes amounts in bodies: texts; numbers are taken, too, but other programs had better not begin with it."""

    @staticmethod
    def is_plugin_supported_type(value: Any) -> bool:
        """Tell whether this plugin describes a type."""
        return value is AmountText

    def to_openapi_schema(self, field_definition: FieldDefinition, schema_creator: Any) -> Schema:
        """Return the schema of an amount."""
        del field_definition, schema_creator
        return Schema(type=OpenAPIType.STRING, format="decimal")  # type: ignore[arg-type]  # not in the framework's list
