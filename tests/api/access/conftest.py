"""The routes of access beside a few handlers that only ask for a role, on real engines, without the other slices."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, fields
from typing import Any

import httpx
import pytest
from litestar import Litestar, Request, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide

from service.access import repository
from service.access.controller import SettingsController, TenantController, TokenController
from service.access.directory import CallerDirectory
from service.access.guards import admits, caller_of, provide_caller, requires
from service.access.service import SettingsService, TenantService, TokenService
from service.access.tokens import ROLES, Caller, TokenTerms
from service.amount_bodies import ExactRequest
from service.config.fence import ConfigFence
from service.config.service import ConfigStore
from service.db.pools import Pools
from service.openapi import openapi_config
from service.problems import problem_handlers
from tests.app_client import running_client


@dataclass(frozen=True)
class Services:
    caller_directory: CallerDirectory
    token_service: TokenService
    tenant_service: TenantService
    settings_service: SettingsService


def _identity(caller: Caller) -> dict[str, Any]:
    return {"tenant_id": caller.tenant_id, "name": caller.name, "pinned": caller.pinned, "source": caller.source}


@get("/ingest", guards=[requires("ingest")])
async def ingest(caller: NamedDependency[Caller]) -> dict[str, Any]:
    return _identity(caller)


@get("/check", guards=[requires("check")])
async def check(caller: NamedDependency[Caller]) -> dict[str, Any]:
    return _identity(caller)


@post("/hot-check", middleware=[admits("check")])
async def hot_check(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return _identity(caller_of(request))


@get("/read", guards=[requires("read")])
async def read(caller: NamedDependency[Caller]) -> dict[str, Any]:
    return _identity(caller)


@get("/admin", guards=[requires("admin")])
async def admin(caller: NamedDependency[Caller]) -> dict[str, Any]:
    return _identity(caller)


@get("/anybody")
async def anybody(caller: NamedDependency[Caller]) -> dict[str, Any]:
    return _identity(caller)


def make_app(services: Services) -> Litestar:
    def provide(name: str) -> Provide:
        def provide_service(state: State) -> Any:
            return getattr(state.services, name)

        return Provide(provide_service, sync_to_thread=False)

    names = [field.name for field in fields(Services)]
    return Litestar(
        [TokenController, TenantController, SettingsController, ingest, check, hot_check, read, admin, anybody],
        dependencies={name: provide(name) for name in names} | {"caller": Provide(provide_caller)},
        exception_handlers=problem_handlers(),
        request_class=ExactRequest,
        openapi_config=openapi_config(),
        state=State({"services": services}),
        logging_config=None,
    )


@pytest.fixture
def configs(pools: Pools) -> ConfigStore:
    return ConfigStore(pools.postgres, ConfigFence(pools.redis))


@pytest.fixture
async def services(pools: Pools, configs: ConfigStore) -> AsyncIterator[Services]:
    directory = CallerDirectory(pools.postgres)
    yield Services(
        directory,
        TokenService(pools.postgres, directory.forget),
        TenantService(pools.postgres),
        SettingsService(pools.postgres, configs),
    )
    await directory.close()


@pytest.fixture
async def client(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with running_client(make_app(services)) as opened:
        yield opened


@dataclass(frozen=True)
class Known:
    """A token and the headers that carry it."""

    id: str
    text: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.text}"}


MakeToken = Callable[..., Awaitable[Known]]


@pytest.fixture
def make_token(pools: Pools, tenant_id: str) -> MakeToken:
    """Makes tokens of the test's tenant, or of another one."""

    async def make(tenant: str = tenant_id, **changed: Any) -> Known:
        async with pools.postgres.connection() as connection:
            await repository.insert_tenant(connection, tenant, tenant)
        terms = TokenTerms(**{"name": "test", "roles": ROLES} | changed)
        created = await TokenService(pools.postgres).create(tenant, terms, None)
        return Known(str(created.row.token_id), created.text)

    return make
