"""Admits requests: `Authorization: Bearer <token>` -> the Caller with the role the handler asks for. Reads no body.

Two ways for two kinds of handlers, one rule behind both: `guards=[requires("read")]` with a `caller: Caller` parameter
reads best; `middleware=[admits("check")]` with `caller_of(request)` saves 25 us on the hot paths, because Litestar
copies the route handler for every guard it calls. The composition root puts the CallerDirectory into
`app.state.services.caller_directory`.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send

from service.access.directory import CallerDirectory
from service.access.tokens import MAX_TOKEN_LENGTH, MIN_TOKEN_LENGTH, Caller, Role, token_digest
from service.errors import Forbidden, Unauthenticated

Guard = Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Awaitable[None]]

_AUTHORIZATION = b"authorization"
_SCHEME = b"bearer"


def requires(role: Role) -> Guard:
    """Return the guard that admits callers with this role. Raises Unauthenticated, Forbidden, Unavailable."""

    async def require_role(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        await _admit(connection.scope, role)

    return require_role


def requires_any(*roles: Role) -> Guard:
    """Return the guard that admits callers with one of these roles. Raises Unauthenticated, Forbidden, Unavailable."""

    async def require_one(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        caller = await _admit(connection.scope, None)
        if caller.roles.isdisjoint(roles):
            raise Forbidden(f"This needs a token with one of the roles {', '.join(f'`{role}`' for role in roles)}.")

    return require_one


async def requires_operator(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Admit operators only: those who create tenants."""
    caller = await _admit(connection.scope, None)
    if not caller.is_operator:
        raise Forbidden("This needs an operator's token.")


def admits(role: Role) -> Callable[[ASGIApp], ASGIApp]:
    """Return the same as `requires`, as a middleware of one handler; read the caller by `caller_of`."""

    def around(app: ASGIApp) -> ASGIApp:
        async def admit(scope: Scope, receive: Receive, send: Send) -> None:
            await _admit(scope, role)
            await app(scope, receive, send)

        return admit

    return around


def caller_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    """Return the caller of an admitted request."""
    caller: Caller = connection.scope["auth"]
    return caller


async def provide_caller(request: Request[Any, Any, Any]) -> Caller:
    """Return the caller: the dependency `caller`. A handler without a guard admits any valid token by asking for it."""
    caller = request.scope.get("auth")
    return caller if isinstance(caller, Caller) else await _admit(request.scope, None)


async def admit_token(scope: Scope, token: bytes, role: Role) -> Caller:
    """Return the caller of a token that came in another place than Authorization.

    Raises Unauthenticated, Forbidden, Unavailable.
    """
    if not MIN_TOKEN_LENGTH <= len(token) <= MAX_TOKEN_LENGTH:
        raise Unauthenticated("This is no token of this service.")
    return await _admit_digest(scope, token_digest(token), role)


async def _admit(scope: Scope, role: Role | None) -> Caller:
    return await _admit_digest(scope, bearer_digest(scope["headers"]), role)


async def _admit_digest(scope: Scope, digest: str, role: Role | None) -> Caller:
    directory: CallerDirectory = scope["litestar_app"].state.services.caller_directory
    caller = directory.find_cached(digest)
    if caller is None:
        caller = await directory.get_caller(digest, survives_outage=role == "check")
    if role is not None and role not in caller.roles:
        raise Forbidden(f"This needs a token with the role `{role}`.")
    scope["auth"] = caller
    return caller


def bearer_digest(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the digest of the bearer token in ASGI headers. Raises Unauthenticated when there is not exactly one."""
    values = [value for name, value in headers if name == _AUTHORIZATION]
    if not values:
        raise Unauthenticated("Send your token: `Authorization: Bearer tg_…`.")
    if len(values) > 1:
        raise Unauthenticated("There is more than one Authorization header.")
    scheme, _, token = values[0].strip().partition(b" ")
    token = token.lstrip()
    if scheme.lower() != _SCHEME or not MIN_TOKEN_LENGTH <= len(token) <= MAX_TOKEN_LENGTH or b" " in token:
        raise Unauthenticated("The Authorization header holds no token of this service.")
    return token_digest(token)
