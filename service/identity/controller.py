"""`/v1/aliases` and `/v1/keys`: what operators declare of names and of keys."""

from typing import Annotated
from uuid import UUID

from litestar import Controller, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, PathParameter, QueryParameter

from service.access.guards import requires
from service.access.tokens import Caller
from service.identity.repricing_offer import OfferFinder
from service.identity.schemas import (
    AliasList,
    AliasRequest,
    DeclaredAlias,
    KeyList,
    KeyRequest,
    KeyView,
    alias_view,
    checked_api_key,
    checked_text,
    declared_alias,
    key_view,
)
from service.identity.service import AliasService, KeyService
from service.kit.pagination import decode_cursor, encode_cursor, invalid_cursor, page_limit
from service.problems import problem_responses

_LIST_PROBLEMS = (400, 401, 403, 422, 503)
_Limit = Annotated[str | None, QueryParameter(description="Rows of a page, 1 to 1000 (default 100).")]
_Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")]
_OneAlias = Annotated[str | None, QueryParameter(description="Only this name, whatever its case.")]
_WholeAlias = Annotated[str, QueryParameter(description="The name, whatever its case; it is deleted at all its dates.")]
_ApiKey = Annotated[
    str, PathParameter(description="SHA-256 of the key in hex, or another gateway's own id of it, without slashes.")
]


class AliasController(Controller):
    """Aliases of the caller's tenant."""

    path = "/v1/aliases"
    tags = ("identity",)

    @post(
        guards=[requires("admin")],
        operation_id="declare_alias",
        summary="Declare which model a name means, and when",
        responses=problem_responses(400, 401, 403, 409, 422, 503),
    )
    async def declare_alias(
        self,
        data: JSONBody[AliasRequest],
        caller: NamedDependency[Caller],
        alias_service: NamedDependency[AliasService],
        offer_finder: NamedDependency[OfferFinder],
    ) -> DeclaredAlias:
        """Declare an alias: checks and events that occur from now on follow, recorded charges stay as they are.

        What had no price for want of it is offered for repricing.
        """
        row = await alias_service.declare(caller.tenant_id, data.to_rule(), author=caller.author)
        return declared_alias(row, await offer_finder.find(caller.tenant_id))

    @get(
        guards=[requires("read")],
        operation_id="list_aliases",
        summary="List aliases, oldest first",
        responses=problem_responses(*_LIST_PROBLEMS),
    )
    async def list_aliases(
        self,
        caller: NamedDependency[Caller],
        alias_service: NamedDependency[AliasService],
        alias: _OneAlias = None,
        limit: _Limit = None,
        cursor: _Cursor = None,
    ) -> AliasList:
        """Return a page of aliases, those of other times too."""
        size = page_limit(limit)
        after = None if cursor is None else _decode_alias_position(cursor)
        name = None if alias is None else checked_text(alias, "alias")
        rows = await alias_service.list_page(caller.tenant_id, alias=name, after=after, limit=size + 1)
        next_cursor = encode_cursor([str(rows[size - 1].alias_id)]) if len(rows) > size else None
        return AliasList([alias_view(row) for row in rows[:size]], next_cursor)

    @delete(
        "/{alias_id:uuid}",
        guards=[requires("admin")],
        operation_id="delete_alias",
        summary="Delete one alias",
        responses=problem_responses(401, 403, 404, 503),
    )
    async def delete_alias(
        self, alias_id: FromPath[UUID], caller: NamedDependency[Caller], alias_service: NamedDependency[AliasService]
    ) -> None:
        """Delete an alias; recorded charges stay as they are."""
        await alias_service.withdraw(caller.tenant_id, alias_id, author=caller.author)

    @delete(
        guards=[requires("admin")],
        operation_id="delete_aliases_of_a_name",
        summary="Delete an alias by its name",
        responses=problem_responses(400, 401, 403, 404, 422, 503),
    )
    async def delete_named(
        self, caller: NamedDependency[Caller], alias_service: NamedDependency[AliasService], alias: _WholeAlias
    ) -> None:
        """Delete an alias with all its dates; names with slashes cannot be part of a path."""
        await alias_service.withdraw_named(caller.tenant_id, checked_text(alias, "alias"), author=caller.author)


class KeyController(Controller):
    """The key registry of the caller's tenant."""

    path = "/v1/keys"
    tags = ("identity",)
    guards = (requires("admin"),)

    @get(operation_id="list_keys", summary="List keys", responses=problem_responses(*_LIST_PROBLEMS))
    async def list_keys(
        self,
        caller: NamedDependency[Caller],
        key_service: NamedDependency[KeyService],
        limit: _Limit = None,
        cursor: _Cursor = None,
    ) -> KeyList:
        """Return a page of keys: declared and learned values side by side."""
        size = page_limit(limit)
        after = "" if cursor is None else _decode_key_position(cursor)
        rows = await key_service.list_page(caller.tenant_id, after=after, limit=size + 1)
        next_cursor = encode_cursor([rows[size - 1].api_key]) if len(rows) > size else None
        return KeyList([key_view(row) for row in rows[:size]], next_cursor)

    @get(
        "/{api_key:str}",
        operation_id="get_key",
        summary="What is known of a key",
        responses=problem_responses(401, 403, 404, 422, 503),
    )
    async def get_key(
        self, api_key: _ApiKey, caller: NamedDependency[Caller], key_service: NamedDependency[KeyService]
    ) -> KeyView:
        """Return a key: declared and learned values side by side."""
        return key_view(await key_service.get(caller.tenant_id, checked_api_key(api_key)))

    @put(
        "/{api_key:str}",
        operation_id="declare_key",
        summary="Declare to whom a key belongs; every server follows at once",
        responses=problem_responses(400, 401, 403, 422, 503),
    )
    async def declare_key(
        self,
        data: JSONBody[KeyRequest],
        api_key: _ApiKey,
        caller: NamedDependency[Caller],
        key_service: NamedDependency[KeyService],
    ) -> KeyView:
        """Declare a key instead of whatever was declared of it before; what was learned stays beside it."""
        facts = data.to_facts()
        known = await key_service.declare(
            caller.tenant_id, checked_api_key(api_key), facts, is_blocked=data.blocked, author=caller.author
        )
        return key_view(known)

    @delete(
        "/{api_key:str}",
        operation_id="delete_key",
        summary="Forget a key",
        responses=problem_responses(401, 403, 404, 422, 503),
    )
    async def delete_key(
        self, api_key: _ApiKey, caller: NamedDependency[Caller], key_service: NamedDependency[KeyService]
    ) -> None:
        """Forget what was declared and learned of a key; its next event teaches anew."""
        await key_service.delete(caller.tenant_id, checked_api_key(api_key), author=caller.author)


def _decode_alias_position(cursor: str) -> UUID:
    (alias_id,) = decode_cursor(cursor, length=1)
    try:
        return UUID(alias_id)
    except (TypeError, ValueError, AttributeError) as error:
        raise invalid_cursor() from error


def _decode_key_position(cursor: str) -> str:
    (api_key,) = decode_cursor(cursor, length=1)
    if not isinstance(api_key, str) or "\x00" in api_key:
        raise invalid_cursor()
    return api_key
