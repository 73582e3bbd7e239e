"""`POST /v1/events`: the way in. A body is read in bounded memory; what is in it is the ingest's business."""

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import Controller, Request, Response, post
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType

from service.access.guards import admits, caller_of
from service.direct import directly, find_header, read_chunks
from service.errors import InvalidInput
from service.events.in_flight import BodyHold, BodyLimiter
from service.events.ingest import EventIngest
from service.events.schemas import EventsAnswer, ResultsWanted, answer_events
from service.kit.body import BodyCollector, is_gzip
from service.problems import problem_responses

_ENCODER = msgspec.json.Encoder()
_WANTED: tuple[ResultsWanted, ...] = ("all", "problems", "none")

_TEXT = Schema(type=OpenAPIType.STRING)
_ADDED = Schema(
    type=OpenAPIType.OBJECT,
    description="What an adapter knows and the gateway does not carry; every field may be absent.",
    properties={
        "requested_model": _TEXT,
        "reservation_id": _TEXT,
        "session": _TEXT,
        "agent": _TEXT,
        "attempt": Schema(type=OpenAPIType.INTEGER, minimum=0),
        "final": Schema(type=OpenAPIType.BOOLEAN),
        "source": _TEXT,
        "quantities": Schema(
            type=OpenAPIType.OBJECT,
            description=(
                "Units by name, such as `input_characters` or `output_audio_seconds`: they come before what the event "
                "tells by itself, and 0 says that nothing of it is to be paid."
            ),
            additional_properties=Schema(one_of=[Schema(type=OpenAPIType.NUMBER, minimum=0), _TEXT]),
        ),
    },
)
_EVENT = Schema(
    type=OpenAPIType.OBJECT,
    description="A standard logging payload of LiteLLM; further fields of ours ride under `tallygate`.",
    properties={"tallygate": _ADDED},
)
_EVENTS = Schema(one_of=[_EVENT, Schema(type=OpenAPIType.ARRAY, items=_EVENT)])


_BODY = RequestBody(
    required=True,
    description=(
        "One event, an array of events (`null` elements are answered as rejected), or one event per line, "
        "whatever the content type says. `Content-Encoding: gzip` is understood."
    ),
    content={
        "application/json": OpenAPIMediaType(schema=_EVENTS),
        "application/x-ndjson": OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING)),
    },
)


@dataclass
class _EventsOperation(Operation):
    """Describes the body, which no type of the handler does."""

    def __post_init__(self) -> None:
        self.request_body = _BODY


class EventsController(Controller):
    """Takes what gateways report."""

    path = "/v1/events"
    tags = ("Events",)

    @post(
        status_code=200,
        middleware=[admits("ingest"), directly],
        operation_id="post_events",
        operation_class=_EventsOperation,
        summary="Record what happened",
        responses={
            200: ResponseSpec(
                data_container=EventsAnswer, description="What became of each element", generate_examples=False
            ),
            **problem_responses(400, 401, 403, 413, 422, 503),
        },
    )
    async def post_events(self, request: Request[Any, Any, State]) -> Response[bytes]:
        """Record each element exactly once; answered after the commit.

        `results` (`all`, `problems`, `none`) says which elements to list: by default all up to 100, beyond that only
        those not recorded. A bad element is listed as rejected and never fails its batch. After a 503 send the whole
        body again.
        """
        wanted = _wanted_results(request)
        ingest: EventIngest = request.app.state.services.event_ingest
        limiter: BodyLimiter = request.app.state.services.body_limiter
        with limiter.hold() as hold:
            body = await _read_body(request, hold, ingest.max_body_bytes)
            results = await ingest.ingest(caller_of(request), body)
        return Response(_ENCODER.encode(answer_events(results, wanted)), media_type="application/json")


def _wanted_results(request: Request[Any, Any, State]) -> ResultsWanted | None:
    if not request.scope["query_string"]:
        return None
    chosen = request.query_params.get("results")
    for wanted in _WANTED:
        if wanted == chosen:
            return wanted
    if chosen is not None:
        raise InvalidInput("results is one of all, problems, none.", field="results")
    return None


async def _read_body(request: Request[Any, Any, State], hold: BodyHold, limit_bytes: int) -> bytearray:
    """Return the body, inflated. Raises BodyTooLarge, MalformedBody, Unavailable (too many bytes in flight)."""
    collector = BodyCollector(limit_bytes, is_gzip=is_gzip(find_header(request.scope, b"content-encoding")))
    async for chunk in read_chunks(request):
        for step, size_bytes in enumerate(collector.add(chunk)):
            hold.grow_to(size_bytes)
            if step > 0:
                await asyncio.sleep(0)
    return collector.content()
