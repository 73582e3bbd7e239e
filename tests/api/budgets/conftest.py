"""The routes of budgets on real engines, beside nothing but what they need; the whole application as `world`."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, fields
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide

from service.access.directory import CallerDirectory
from service.access.guards import provide_caller
from service.access.service import TokenService
from service.access.tokens import ROLES, TokenTerms
from service.amount_bodies import ExactRequest
from service.budgets.controller import BudgetController
from service.budgets.increase_controller import IncreaseController
from service.budgets.increase_service import IncreaseService
from service.budgets.service import BudgetService
from service.db.pools import Pools
from service.openapi import openapi_config
from service.problems import problem_handlers
from tests.api.checks.conftest import app_and_client, other_world, world
from tests.app_client import running_client
from tests.integration.budgets.conftest import NotingPublisher, Replica, budget_tenant, publisher

__all__ = ["app_and_client", "budget_tenant", "other_world", "publisher", "world"]

Headers = dict[str, str]
MakeToken = Callable[..., Awaitable[Headers]]


@dataclass(frozen=True)
class Services:
    caller_directory: CallerDirectory
    budget_service: BudgetService
    increase_service: IncreaseService


def make_app(services: Services) -> Litestar:
    def provide(name: str) -> Provide:
        def provide_service(state: State) -> Any:
            return getattr(state.services, name)

        return Provide(provide_service, sync_to_thread=False)

    return Litestar(
        [BudgetController, IncreaseController],
        dependencies={field.name: provide(field.name) for field in fields(Services)}
        | {"caller": Provide(provide_caller)},
        exception_handlers=problem_handlers(),
        request_class=ExactRequest,
        openapi_config=openapi_config(),
        state=State({"services": services}),
        logging_config=None,
    )


@pytest.fixture
async def replica(pools: Pools, publisher: NotingPublisher, budget_tenant: str) -> AsyncIterator[Replica]:
    replica = Replica(pools, publisher)
    yield replica
    await replica.close()


@pytest.fixture
async def app(pools: Pools, replica: Replica) -> AsyncIterator[Litestar]:
    directory = CallerDirectory(pools.postgres)
    yield make_app(Services(directory, replica.service, IncreaseService(pools.postgres, replica.configs)))
    await directory.close()


@pytest.fixture
def make_token(pools: Pools, budget_tenant: str) -> MakeToken:
    """Makes tokens of the test's tenant, or of another one, and returns the headers that carry them."""

    async def make(tenant: str = budget_tenant, **changed: Any) -> Headers:
        terms = TokenTerms(**{"name": "test", "roles": ROLES} | changed)
        created = await TokenService(pools.postgres).create(tenant, terms, None)
        return {"authorization": f"Bearer {created.text}"}

    return make


@pytest.fixture
async def client(app: Litestar, make_token: MakeToken) -> AsyncIterator[httpx.AsyncClient]:
    """A client that may do everything in the test's tenant."""
    async with running_client(app) as opened:
        opened.headers.update(await make_token())
        yield opened
