"""The routes of identity on real engines, without the other slices."""

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
from service.access.repository import insert_tenant
from service.access.service import TokenService
from service.access.tokens import ROLES, TokenTerms
from service.amount_bodies import ExactRequest
from service.config.fence import ConfigFence
from service.config.service import ConfigStore
from service.db.pools import Pools
from service.identity.controller import AliasController, KeyController
from service.identity.registry import KeyRegistry
from service.identity.repricing_offer import OfferFinder, RepricingOffer
from service.identity.service import AliasService, KeyService
from service.problems import problem_handlers
from tests.app_client import running_client


@dataclass(frozen=True)
class Services:
    caller_directory: CallerDirectory
    alias_service: AliasService
    key_service: KeyService
    key_registry: KeyRegistry
    offer_finder: OfferFinder


async def nothing_is_offered(_: str) -> list[RepricingOffer]:
    return []


def make_app(services: Services) -> Litestar:
    def provide(name: str) -> Provide:
        def provide_service(state: State) -> Any:
            return getattr(state.services, name)

        return Provide(provide_service, sync_to_thread=False)

    return Litestar(
        [AliasController, KeyController],
        dependencies={field.name: provide(field.name) for field in fields(Services)}
        | {"caller": Provide(provide_caller)},
        exception_handlers=problem_handlers(),
        request_class=ExactRequest,
        state=State({"services": services}),
        logging_config=None,
    )


@pytest.fixture
async def services(pools: Pools) -> AsyncIterator[Services]:
    directory = CallerDirectory(pools.postgres)
    registry = KeyRegistry(pools.postgres)
    store = ConfigStore(pools.postgres, ConfigFence(pools.redis))
    yield Services(
        directory,
        AliasService(pools.postgres, store.change),
        KeyService(pools.postgres, registry),
        registry,
        OfferFinder(nothing_is_offered),
    )
    await registry.close()
    await directory.close()


@pytest.fixture
async def client(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with running_client(make_app(services)) as opened:
        yield opened


Headers = dict[str, str]
MakeHeaders = Callable[..., Awaitable[Headers]]


@pytest.fixture
def make_headers(pools: Pools, tenant_id: str) -> MakeHeaders:
    """Makes a token of the test's tenant, or of another one, and returns the headers that carry it."""

    async def make(tenant: str = tenant_id, roles: tuple[Any, ...] = ROLES) -> Headers:
        async with pools.postgres.connection() as connection:
            await insert_tenant(connection, tenant, tenant)
        terms = TokenTerms(name="test", roles=roles)
        created = await TokenService(pools.postgres).create(tenant, terms, None)
        return {"authorization": f"Bearer {created.text}"}

    return make


@pytest.fixture
async def admin(make_headers: MakeHeaders) -> Headers:
    return await make_headers()
