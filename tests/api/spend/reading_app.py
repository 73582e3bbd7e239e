"""The routes that read charges and spend, with real tokens on real engines, without the other slices."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

import httpx
import pytest
from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide

from service.access import repository
from service.access.directory import CallerDirectory
from service.access.guards import provide_caller
from service.access.service import TokenService
from service.access.tokens import TokenTerms
from service.config.fence import ConfigFence
from service.config.service import ConfigStore
from service.config.window_matcher import ConfigWindowMatcher
from service.db.pools import Pools
from service.ledger.controller import ChargeController
from service.ledger.posts import CommittedPosts
from service.ledger.queries import ChargeQueries
from service.ledger.reversal import ReversalService
from service.ledger.service import LedgerRecorder
from service.openapi import openapi_config
from service.problems import problem_handlers
from service.spend.controller import SpendController
from service.spend.litellm_controller import LitellmSpendController
from service.spend.queries import SpendQueries
from tests.app_client import running_client


@dataclass(frozen=True)
class Services:
    caller_directory: CallerDirectory
    charge_queries: ChargeQueries
    spend_queries: SpendQueries
    reversal_service: ReversalService


class NoCounters:
    """There is nothing to publish to."""

    async def publish(self, posts: Sequence[CommittedPosts]) -> set[UUID]:
        return {post.outbox_id for post in posts}


def make_app(services: Services) -> Litestar:
    def provide(name: str) -> Provide:
        def provide_service(state: State) -> Any:
            return getattr(state.services, name)

        return Provide(provide_service, sync_to_thread=False)

    return Litestar(
        [ChargeController, SpendController, LitellmSpendController],
        dependencies={f.name: provide(f.name) for f in fields(Services)} | {"caller": Provide(provide_caller)},
        exception_handlers=problem_handlers(),
        openapi_config=openapi_config(),
        state=State({"services": services}),
        logging_config=None,
    )


@asynccontextmanager
async def open_client(pools: Pools) -> AsyncIterator[httpx.AsyncClient]:
    directory = CallerDirectory(pools.postgres)
    recorder = LedgerRecorder(
        pools.postgres,
        ConfigWindowMatcher(ConfigStore(pools.postgres, ConfigFence(pools.redis))),
        NoCounters(),
        max_batch_charges=100,
        batch_wait_ms=1,
    )
    services = Services(
        directory,
        ChargeQueries(pools.postgres),
        SpendQueries(pools.postgres),
        ReversalService(ChargeQueries(pools.postgres), recorder),
    )
    async with running_client(make_app(services)) as client:
        yield client
    await recorder.close()
    await directory.close()


@pytest.fixture
async def client(pools: Pools) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(pools) as opened:
        yield opened


Read = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
async def headers_of(pools: Pools, tenant_id: str) -> Callable[..., Awaitable[dict[str, str]]]:
    """Makes a token of the test's tenant, or of another one, and the header that carries it."""

    async def make(tenant: str = tenant_id, **changed: Any) -> dict[str, str]:
        async with pools.postgres.connection() as connection:
            await repository.insert_tenant(connection, tenant, tenant)
        terms = TokenTerms(**{"name": "analyst", "roles": ("read",)} | changed)
        token = await TokenService(pools.postgres).create(tenant, terms, None)
        return {"authorization": f"Bearer {token.text}"}

    return make


@pytest.fixture
async def read(client: httpx.AsyncClient, headers_of: Callable[..., Awaitable[dict[str, str]]]) -> Read:
    """Reads a path as an analyst of the test's tenant."""
    headers = await headers_of()

    async def get(path: str, **parameters: Any) -> httpx.Response:
        return await client.get(path, params=parameters, headers=headers)

    return get
