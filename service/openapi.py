"""The description of the HTTP interface: its header, its YAML, and a page to read it that needs no other host."""

import json
from collections.abc import Iterator
from html import escape
from importlib import metadata
from typing import Any

import msgspec
import yaml
from litestar import Litestar, Request, Response, get
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Server
from litestar.routes import ASGIRoute

_DESCRIPTION = """\
What LLM traffic costs, and the gate in front of it. Gateways post what happened, ask before they forward a request,
and analysts ask who spent what on which model.

Amounts are JSON strings in USD, plain notation. Times are RFC 3339 with an offset. Errors are
`application/problem+json` with a stable `code` and, for one element of the input, its `field`."""

_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_METHODS = ("get", "put", "post", "delete", "patch")
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1b1f24;background:#fff}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:#f4f5f7;padding:.75rem;overflow:auto}
summary{cursor:pointer;padding:.35rem 0}summary b{display:inline-block;min-width:4.5rem;text-transform:uppercase}
details{border-bottom:1px solid #e2e5e9}td,th{text-align:left;vertical-align:top;padding:.2rem .75rem .2rem 0}
@media(prefers-color-scheme:dark){body{color:#e6e8eb;background:#15181c}pre{background:#1f242a}details{border-color:#333a42}}
"""


def openapi_config() -> OpenAPIConfig:
    """Return the header of the document; every operation asks for a bearer token unless it says otherwise."""
    return OpenAPIConfig(
        title="Tallygate",
        version=metadata.version("tallygate"),
        description=_DESCRIPTION,
        servers=[Server(url="/")],
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(type="http", scheme="bearer"),
                "gateway": SecurityScheme(
                    type="apiKey",
                    name="x-tallygate-token",
                    security_scheme_in="header",
                    description="A gateway's token: Authorization usually is its client's.",
                ),
                "client_key": SecurityScheme(
                    type="http", scheme="bearer", description="The key of an end client, as the key registry knows it."
                ),
            }
        ),
        security=[{"bearer": []}],
        path="/docs",
        render_plugins=[_ReadingPage(path="/")],
        use_handler_docstrings=True,
    )


def openapi_yaml(app: Litestar) -> str:
    """Return the whole document as YAML, the same text for the same routes."""
    schema = _plain(app, app.openapi_schema.to_schema())
    document = {"openapi": schema.pop("openapi"), **schema}
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120))


@get("/openapi.yaml", include_in_schema=False, sync_to_thread=True)
def get_openapi_yaml(request: Request[Any, Any, Any]) -> Response[str]:
    """Answer with the description of this interface."""
    return Response(openapi_yaml(request.app), media_type="application/yaml")


class _ReadingPage(OpenAPIRenderPlugin):
    """Plain HTML made here: no script, no style sheet and no font from another host."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the page."""
        return "".join(_page(_plain(request.app, openapi_schema))).encode()


def _plain(app: Litestar, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema as JSON has it (defaults may be UUIDs, amounts, instants), with our answers to wrong input.

    Litestar describes its own answer to a wrong parameter; `service/problems.py` gives a problem document instead.
    What it mounts it does not describe at all: such a handler brings its description along, as `opt["openapi"]`.
    """
    plain: dict[str, Any] = msgspec.to_builtins(schema, str_keys=True)
    for route in app.routes:
        if isinstance(route, ASGIRoute):
            plain["paths"] |= route.route_handler.opt.get("openapi", {})
    for item in plain.get("paths", {}).values():
        for operation in item.values():
            wrong_input = operation.get("responses", {}).get("400", {})
            if "application/json" in wrong_input.get("content", {}):
                wrong_input["description"] = "Bad Request"
                wrong_input["content"] = {"application/problem+json": {"schema": _PROBLEM}}
    return plain


def _page(schema: dict[str, Any]) -> Iterator[str]:
    title = f"{schema['info']['title']} {schema['info']['version']}"
    yield f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(title)}</title>"
    yield f"<meta name=viewport content='width=device-width'><style>{_STYLE}</style></head><body>"
    yield f"<h1>{escape(title)}</h1><p>{escape(schema['info'].get('description', ''))}</p>"
    yield "<p>The same for programs: <a href='/openapi.yaml'>openapi.yaml</a></p>"
    for tag, operations in _operations_by_tag(schema).items():
        yield f"<h2>{escape(tag)}</h2>"
        for method, path, operation in operations:
            yield from _operation(method, path, operation)
    yield "<h2>Schemas</h2>"
    for name, component in schema.get("components", {}).get("schemas", {}).items():
        yield f"<details id='{escape(name)}'><summary>{escape(name)}</summary>{_json(component)}</details>"
    yield "</body></html>"


def _operations_by_tag(schema: dict[str, Any]) -> dict[str, list[tuple[str, str, dict[str, Any]]]]:
    grouped: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, item in schema.get("paths", {}).items():
        for method in _METHODS:
            if operation := item.get(method):
                grouped.setdefault((operation.get("tags") or ["Other"])[0], []).append((method, path, operation))
    return grouped


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    summary = f"<b>{method}</b> <code>{escape(path)}</code> {escape(operation.get('summary') or '')}"
    yield f"<details><summary>{summary}</summary><p>{escape(operation.get('description') or '')}</p>"
    if parameters := operation.get("parameters"):
        yield "<table><tr><th>Parameter</th><th>In</th><th>Meaning</th></tr>"
        for parameter in parameters:
            cells = (parameter.get("name", ""), parameter.get("in", ""), parameter.get("description") or "")
            yield f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        yield "</table>"
    if body := operation.get("requestBody"):
        yield f"<h4>Body</h4>{_json(body.get('content', {}))}"
    for status, response in operation.get("responses", {}).items():
        yield f"<h4>{escape(status)} {escape(response.get('description', ''))}</h4>{_json(response.get('content', {}))}"
    yield "</details>"


def _json(document: dict[str, Any]) -> str:
    return f"<pre>{escape(json.dumps(document, indent=2, ensure_ascii=False))}</pre>" if document else ""
