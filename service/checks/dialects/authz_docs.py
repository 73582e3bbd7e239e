"""Describes, in the document of the interface, the address that takes any method: it is no route of the framework."""

from typing import Any, Final

from service.checks.body_docs import inline_schema
from service.checks.dialects.schemas import StoppedAnswer

GATEWAY_SECURITY: Final[list[dict[str, list[str]]]] = [{"gateway": []}, {"bearer": []}]

_STOPPED: Final = {"application/json": {"schema": inline_schema(StoppedAnswer)}}
_DESCRIPTION: Final = """\
Decides a request of an end client that a gateway passes on, whatever its method and path: Envoy's ext_authz over HTTP,
agentgateway, Traefik, Caddy, APISIX. The gateway proves itself by a token with the role `check` in x-tallygate-token.
Every client key in Authorization, x-api-key, api-key, x-litellm-api-key and x-goog-api-key must pass, and every model
the JSON body names. Answers other than 200 are made to be given to the client as they are."""
_RESPONSES: Final = {
    "200": "The call may be made",
    "401": "The gateway has not proved itself",
    "402": "A budget stands in the way; 403, 422 or 429 if the tenant chose so",
    "403": "The key is blocked, or nobody knows who asks",
    "429": "Only calls under way stand in the way: try again in a second",
    "503": "Nothing could be decided",
}


def _operation(method: str) -> dict[str, Any]:
    return {
        "tags": ["checks"],
        "summary": f"Decide a {method.upper()} request passed on by a gateway",
        "description": _DESCRIPTION,
        "operationId": f"authorize_{method}",
        "parameters": [
            {"name": "path", "in": "path", "required": True, "schema": {"type": "string"}},
        ],
        "security": GATEWAY_SECURITY,
        "responses": {
            status: {"description": description} | ({} if status == "200" else {"content": _STOPPED})
            for status, description in _RESPONSES.items()
        },
    }


AUTHZ_PATH_ITEM: Final[dict[str, Any]] = {
    method: _operation(method) for method in ("get", "put", "post", "delete", "options", "head", "patch")
}
