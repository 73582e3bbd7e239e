"""`/v1/price-overrides`, `/v1/fees` and `/v1/discounts`: what a tenant declares about its prices."""

from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Controller, Request, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from service.access.guards import requires
from service.access.tokens import Caller
from service.errors import Forbidden
from service.identity.repricing_offer import OfferFinder
from service.kit.instants import checked_instant
from service.kit.pagination import decode_cursor, encode_cursor, invalid_cursor, page_limit
from service.kit.parameters import refuse_unknown
from service.pricing.rule_repository import RuleRow
from service.pricing.rule_schemas import (
    DeclaredOverride,
    DiscountList,
    DiscountRequest,
    DiscountView,
    FeeList,
    FeeRequest,
    FeeView,
    OverrideList,
    OverrideRequest,
    declared_override,
    discount_view,
    fee_view,
    override_view,
)
from service.pricing.rule_service import PriceRuleService
from service.pricing.rule_terms import RuleKind
from service.problems import problem_responses

_DECLARE_PROBLEMS = (400, 401, 403, 409, 422, 503)
_LIST_PROBLEMS = (400, 401, 403, 422, 503)
_DELETE_PROBLEMS = (401, 403, 404, 503)
_PARAMETERS: Final = ("active_at", "limit", "cursor")
_ActiveAt = Annotated[str | None, QueryParameter(description="Only rules in force at this instant (RFC 3339).")]
_Limit = Annotated[str | None, QueryParameter(description="Rows of a page, 1 to 1000 (default 100).")]
_Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")]


class PriceOverrideController(Controller):
    """Overrides of the caller's tenant."""

    path = "/v1/price-overrides"
    tags = ("prices",)

    @post(
        guards=[requires("admin")],
        operation_id="declare_price_override",
        summary="Declare rates of your own for the calls that match",
        responses=problem_responses(*_DECLARE_PROBLEMS),
    )
    async def declare_override(
        self,
        data: JSONBody[OverrideRequest],
        caller: NamedDependency[Caller],
        price_rule_service: NamedDependency[PriceRuleService],
        offer_finder: NamedDependency[OfferFinder],
    ) -> DeclaredOverride:
        """Declare an override: calls made while it holds follow at once, recorded charges stay as they are.

        What had no price for want of it is offered for repricing.
        """
        row = await price_rule_service.declare(caller.tenant_id, data.to_draft(), caller.author)
        return declared_override(row, await offer_finder.find(caller.tenant_id))

    @get(
        guards=[requires("read")],
        operation_id="list_price_overrides",
        summary="List overrides, oldest first",
        responses=problem_responses(*_LIST_PROBLEMS),
    )
    async def list_overrides(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        price_rule_service: NamedDependency[PriceRuleService],
        active_at: _ActiveAt = None,
        limit: _Limit = None,
        cursor: _Cursor = None,
    ) -> OverrideList:
        """Return a page of overrides, those of other times too unless `active_at` says otherwise."""
        refuse_unknown(request.query_params.dict(), _PARAMETERS)
        rows, next_cursor = await _page(price_rule_service, caller, "override", active_at, limit, cursor)
        return OverrideList([override_view(row) for row in rows], next_cursor)

    @delete(
        "/{rule_id:uuid}",
        guards=[requires("admin")],
        operation_id="delete_price_override",
        summary="Delete an override",
        responses=problem_responses(*_DELETE_PROBLEMS),
    )
    async def delete_override(
        self,
        rule_id: FromPath[UUID],
        caller: NamedDependency[Caller],
        price_rule_service: NamedDependency[PriceRuleService],
    ) -> None:
        """Delete an override; recorded charges stay as they are."""
        await price_rule_service.withdraw(caller.tenant_id, "override", rule_id, caller.author)


class FeeController(Controller):
    """Fees of the caller's tenant."""

    path = "/v1/fees"
    tags = ("prices",)

    @post(
        guards=[requires("admin")],
        operation_id="declare_fee",
        summary="Declare a fee on the calls that match",
        responses=problem_responses(*_DECLARE_PROBLEMS),
    )
    async def declare_fee(
        self,
        data: JSONBody[FeeRequest],
        caller: NamedDependency[Caller],
        price_rule_service: NamedDependency[PriceRuleService],
    ) -> FeeView:
        """Declare a fee, a line of its own in each charge; recorded charges stay as they are."""
        return fee_view(await price_rule_service.declare(caller.tenant_id, data.to_draft(), caller.author))

    @get(
        guards=[requires("read")],
        operation_id="list_fees",
        summary="List fees, oldest first",
        responses=problem_responses(*_LIST_PROBLEMS),
    )
    async def list_fees(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        price_rule_service: NamedDependency[PriceRuleService],
        active_at: _ActiveAt = None,
        limit: _Limit = None,
        cursor: _Cursor = None,
    ) -> FeeList:
        """Return a page of fees, those of other times too unless `active_at` says otherwise."""
        refuse_unknown(request.query_params.dict(), _PARAMETERS)
        rows, next_cursor = await _page(price_rule_service, caller, "fee", active_at, limit, cursor)
        return FeeList([fee_view(row) for row in rows], next_cursor)

    @delete(
        "/{rule_id:uuid}",
        guards=[requires("admin")],
        operation_id="delete_fee",
        summary="Delete a fee",
        responses=problem_responses(*_DELETE_PROBLEMS),
    )
    async def delete_fee(
        self,
        rule_id: FromPath[UUID],
        caller: NamedDependency[Caller],
        price_rule_service: NamedDependency[PriceRuleService],
    ) -> None:
        """Delete a fee; recorded charges stay as they are."""
        await price_rule_service.withdraw(caller.tenant_id, "fee", rule_id, caller.author)


class DiscountController(Controller):
    """Discounts and markups of the caller's tenant."""

    path = "/v1/discounts"
    tags = ("prices",)

    @post(
        guards=[requires("admin")],
        operation_id="declare_discount",
        summary="Declare a discount or a markup on the model's cost of the calls that match",
        responses=problem_responses(*_DECLARE_PROBLEMS),
    )
    async def declare_discount(
        self,
        data: JSONBody[DiscountRequest],
        caller: NamedDependency[Caller],
        price_rule_service: NamedDependency[PriceRuleService],
    ) -> DiscountView:
        """Declare a discount or markup, a line of its own in each charge; recorded charges stay as they are."""
        return discount_view(await price_rule_service.declare(caller.tenant_id, data.to_draft(), caller.author))

    @get(
        guards=[requires("read")],
        operation_id="list_discounts",
        summary="List discounts and markups, oldest first",
        responses=problem_responses(*_LIST_PROBLEMS),
    )
    async def list_discounts(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        price_rule_service: NamedDependency[PriceRuleService],
        active_at: _ActiveAt = None,
        limit: _Limit = None,
        cursor: _Cursor = None,
    ) -> DiscountList:
        """Return a page of discounts and markups, those of other times too unless `active_at` says otherwise."""
        refuse_unknown(request.query_params.dict(), _PARAMETERS)
        rows, next_cursor = await _page(price_rule_service, caller, "discount", active_at, limit, cursor)
        return DiscountList([discount_view(row) for row in rows], next_cursor)

    @delete(
        "/{rule_id:uuid}",
        guards=[requires("admin")],
        operation_id="delete_discount",
        summary="Delete a discount or a markup",
        responses=problem_responses(*_DELETE_PROBLEMS),
    )
    async def delete_discount(
        self,
        rule_id: FromPath[UUID],
        caller: NamedDependency[Caller],
        price_rule_service: NamedDependency[PriceRuleService],
    ) -> None:
        """Delete a discount or markup; recorded charges stay as they are."""
        await price_rule_service.withdraw(caller.tenant_id, "discount", rule_id, caller.author)


async def _page(
    service: PriceRuleService,
    caller: Caller,
    kind: RuleKind,
    active_at: str | None,
    limit: str | None,
    cursor: str | None,
) -> tuple[list[RuleRow], str | None]:
    """Return the rows of a page and the cursor of the next one. Raises Forbidden for a token that sees a part only."""
    if caller.scope:
        raise Forbidden("This token shows a part of the tenant only, and rules tell what others pay.")
    size = page_limit(limit)
    instant = None if active_at is None else checked_instant(active_at, "active_at")
    after = None if cursor is None else _decode_position(cursor)
    rows = await service.list_page(caller.tenant_id, kind, active_at=instant, after=after, limit=size + 1)
    next_cursor = encode_cursor([str(rows[size - 1].rule.rule_id)]) if len(rows) > size else None
    return rows[:size], next_cursor


def _decode_position(cursor: str) -> UUID:
    (rule_id,) = decode_cursor(cursor, length=1)
    try:
        return UUID(rule_id)
    except (TypeError, ValueError, AttributeError) as error:
        raise invalid_cursor() from error
