"""Turns a request that a gateway passes on into a caller and a question.

A dialect caller proves itself by a token in `x-tallygate-token`, because Authorization usually is the client's; a token
of this service in Authorization or x-api-key does as well. More than one token is none.
"""

import re

from litestar.types import Scope

from service.access.guards import admit_token
from service.access.tokens import Caller
from service.checks.dialects.client_headers import (
    Headers,
    body_length,
    client_keys,
    header_values,
    model_header,
    own_tokens,
    vouched,
)
from service.checks.dialects.question import Question
from service.checks.dialects.request_body import CallSize, read_call
from service.errors import Unauthenticated
from service.pricing.estimation import DEFAULT_MAX_OUTPUT_TOKENS

TOKEN_HEADER = b"x-tallygate-token"
_CALL_ID_HEADER = b"x-request-id"
_SANE_CALL_ID = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")


async def admit_gateway(scope: Scope) -> Caller:
    """Return the gateway that asks. Raises Unauthenticated, Forbidden, Unavailable."""
    headers = scope["headers"]
    tokens = header_values(headers, TOKEN_HEADER)
    if not tokens:
        tokens = list(dict.fromkeys(own_tokens(headers, b"authorization") + own_tokens(headers, b"x-api-key")))
    if len(tokens) != 1:
        raise Unauthenticated("Send one token of this service in x-tallygate-token.")
    return await admit_token(scope, tokens[0], "check")


def question_of(headers: Headers, body: bytes, length: int, caller: Caller) -> Question:
    """Return what a passed-on request asks; `body` may be the beginning of one of that length."""
    return with_headers(read_call(body, max(length, body_length(headers))), headers, caller)


def with_headers(size: CallSize, headers: Headers, caller: Caller) -> Question:
    """Return the question of a call of that size, completed by what the headers say.

    Of the model: the trusted header, else the body, else Envoy AI Gateway's header. Token counts of headers raise.
    """
    said = vouched(headers, caller.trusted_headers)
    models = (said.model,) if said.model else size.models or model_header(headers)
    call_ids = header_values(headers, _CALL_ID_HEADER)
    is_named = len(call_ids) == 1 and _SANE_CALL_ID.fullmatch(call_ids[0]) is not None
    return Question(
        keys=client_keys(headers),
        models=models,
        dimensions=said.dimensions,
        input_tokens=max(size.input_tokens, said.input_tokens),
        max_output_tokens=_raised(size.max_output_tokens, said.max_output_tokens),
        call_id=call_ids[0].decode() if is_named else None,
        ambiguous=said.ambiguous,
    )


def _raised(limit: int | None, said: int) -> int | None:
    """Return the larger limit; without one in the body what is assumed then may not be lowered either."""
    if limit is None:
        return said if said > DEFAULT_MAX_OUTPUT_TOKENS else None
    return max(limit, said)
