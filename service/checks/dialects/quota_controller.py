"""`GET /v1/quota`: a client key asks about itself; no token of this service is needed."""

from typing import Annotated, Any

from litestar import Controller, Request, get
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from service.checks.dialects.client_headers import client_keys
from service.checks.dialects.quota import QuotaService
from service.checks.dialects.schemas import QuotaAnswer
from service.errors import Unauthenticated
from service.problems import problem_responses


class QuotaController(Controller):
    """What a key may still spend."""

    path = "/v1/quota"
    tags = ("checks",)

    @get(
        operation_id="get_quota",
        summary="Show a key what it may still spend",
        responses=problem_responses(401, 403, 409, 429, 503),
        security=[{"client_key": []}],
    )
    async def get_quota(
        self,
        request: Request[Any, Any, State],
        quota_service: NamedDependency[QuotaService],
        model: Annotated[
            str | None, QueryParameter(description="show the budgets of this model, too", max_length=4_096)
        ] = None,
        tenant: Annotated[
            str | None, QueryParameter(description="the tenant, if more than one knows the key", max_length=63)
        ] = None,
    ) -> QuotaAnswer:
        """Return the budgets of a key, with the figures of its own.

        The client's key is the credential: `Authorization: Bearer`, `x-api-key`, `api-key`, `x-litellm-api-key` or
        `x-goog-api-key`. It must be in the key registry.
        """
        keys = client_keys(request.scope["headers"])
        if len(keys) != 1:
            raise Unauthenticated("Send one key, for instance as Authorization: Bearer.")
        client = request.scope.get("client")
        asked_from = client[0] if client else ""
        return await quota_service.get(keys[0], asked_from=asked_from, tenant_id=tenant or None, model=model or None)
