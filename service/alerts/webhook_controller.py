"""`/v1/webhooks`: where alerts are sent."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_202_ACCEPTED

from service.access.guards import requires
from service.access.tokens import Caller
from service.alerts.schemas import (
    CreatedWebhook,
    TestedWebhook,
    WebhookList,
    WebhookPatch,
    WebhookRequest,
    WebhookView,
    created_webhook,
    webhook_view,
)
from service.alerts.service import WebhookService
from service.kit.pagination import decode_cursor, encode_cursor, invalid_cursor, page_limit
from service.kit.parameters import refuse_unknown
from service.problems import problem_responses

_WRITE_PROBLEMS = (400, 401, 403, 404, 409, 422, 503)
_FIND_PROBLEMS = (401, 403, 404, 503)

_Limit = Annotated[str | None, QueryParameter(description="Rows of a page, 1 to 1000 (default 100).")]
_Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")]


class WebhookController(Controller):
    """Webhooks of the caller's tenant."""

    path = "/v1/webhooks"
    tags = ("alerts",)
    guards = (requires("admin"),)

    @post(
        operation_id="create_webhook",
        summary="Create a webhook; its secret is shown in this answer only",
        responses=problem_responses(400, 401, 403, 409, 422, 503),
    )
    async def create_webhook(
        self,
        data: JSONBody[WebhookRequest],
        caller: NamedDependency[Caller],
        webhook_service: NamedDependency[WebhookService],
    ) -> CreatedWebhook:
        """Have alerts sent to an address from now on, signed as Standard Webhooks describes."""
        webhook, secret = await webhook_service.create(caller.tenant_id, data.to_terms(), caller.author)
        return created_webhook(webhook, secret)

    @get(
        operation_id="list_webhooks",
        summary="List webhooks, oldest first",
        responses=problem_responses(400, 401, 403, 422, 503),
    )
    async def list_webhooks(
        self,
        request: Request[Any, Any, Any],
        caller: NamedDependency[Caller],
        webhook_service: NamedDependency[WebhookService],
        limit: _Limit = None,
        cursor: _Cursor = None,
    ) -> WebhookList:
        """Return a page of webhooks, without their secrets."""
        refuse_unknown(request.query_params.dict(), ("limit", "cursor"))
        size = page_limit(limit)
        after = None if cursor is None else _decode_position(cursor)
        webhooks = await webhook_service.list_page(caller.tenant_id, after=after, limit=size + 1)
        next_cursor = encode_cursor([str(webhooks[size - 1].webhook_id)]) if len(webhooks) > size else None
        return WebhookList([webhook_view(webhook) for webhook in webhooks[:size]], next_cursor)

    @get(
        "/{webhook_id:uuid}",
        operation_id="get_webhook",
        summary="Show a webhook",
        responses=problem_responses(*_FIND_PROBLEMS),
    )
    async def get_webhook(
        self,
        webhook_id: FromPath[UUID],
        caller: NamedDependency[Caller],
        webhook_service: NamedDependency[WebhookService],
    ) -> WebhookView:
        """Return one webhook, without its secret."""
        return webhook_view(await webhook_service.get(caller.tenant_id, webhook_id))

    @patch(
        "/{webhook_id:uuid}",
        operation_id="change_webhook",
        summary="Change, disable or enable a webhook",
        responses=problem_responses(*_WRITE_PROBLEMS),
    )
    async def change_webhook(
        self,
        webhook_id: FromPath[UUID],
        data: JSONBody[WebhookPatch],
        caller: NamedDependency[Caller],
        webhook_service: NamedDependency[WebhookService],
    ) -> WebhookView:
        """Change what is named. What waits for a disabled webhook goes on once it is enabled, unless it is too old."""
        changed = await webhook_service.change(caller.tenant_id, webhook_id, data.to_changes(), caller.author)
        return webhook_view(changed)

    @delete(
        "/{webhook_id:uuid}",
        operation_id="delete_webhook",
        summary="Delete a webhook",
        responses=problem_responses(*_FIND_PROBLEMS),
    )
    async def delete_webhook(
        self,
        webhook_id: FromPath[UUID],
        caller: NamedDependency[Caller],
        webhook_service: NamedDependency[WebhookService],
    ) -> None:
        """Delete a webhook with its secret; what was still to be delivered is canceled."""
        await webhook_service.delete(caller.tenant_id, webhook_id, caller.author)

    @post(
        "/{webhook_id:uuid}/test",
        operation_id="test_webhook",
        summary="Have a test delivered",
        status_code=HTTP_202_ACCEPTED,
        responses=problem_responses(401, 403, 404, 409, 503),
    )
    async def test_webhook(
        self,
        webhook_id: FromPath[UUID],
        caller: NamedDependency[Caller],
        webhook_service: NamedDependency[WebhookService],
    ) -> TestedWebhook:
        """Send a document of type `webhook.test`, signed and templated as alerts are."""
        return TestedWebhook(await webhook_service.test(caller.tenant_id, webhook_id))


def _decode_position(cursor: str) -> UUID:
    (webhook_id,) = decode_cursor(cursor, length=1)
    try:
        return UUID(webhook_id)
    except (TypeError, ValueError, AttributeError) as error:
        raise invalid_cursor() from error
