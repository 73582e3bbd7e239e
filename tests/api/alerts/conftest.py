"""The whole application on real engines, and a receiver of webhooks on this machine."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from litestar import Litestar

from service.app import create_app
from service.db import migrator
from service.db.embedded import EngineUrls
from service.kit.ids import new_id
from service.settings import AlertsSettings, CheckSettings, Settings
from tests.api.alerts.alert_world import AlertWorld
from tests.app_client import running_client
from tests.conftest import fresh_database
from tests.webhook_receiver import WebhookReceiver


@pytest.fixture(scope="session")
def alerts_settings(engines: EngineUrls, settings: Settings) -> Iterator[Settings]:
    """Settings with a database of these tests' own: senders and schedules of other applications are not at it."""
    with fresh_database(engines) as url:
        migrator.upgrade(url)
        yield settings.with_engines(database_url=url, redis_url=settings.redis_url)


@pytest.fixture(scope="session")
async def app_and_client(alerts_settings: Settings) -> AsyncIterator[tuple[Litestar, httpx.AsyncClient]]:
    # Passes of the schedule are made by the tests, each at the moment it is about.
    alerts = AlertsSettings(allow_private_addresses=True, interval_seconds=3_600, delivery_timeout_seconds=1)
    changed = {"alerts": alerts, "checks": CheckSettings(deadline_ms=5_000)}
    async with running_client(app := create_app(alerts_settings.model_copy(update=changed))) as client:
        yield app, client


@pytest.fixture(scope="session")
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver().running() as running:
        yield running


@pytest.fixture
async def world(app_and_client: Any, receiver: WebhookReceiver, tenant_id: str) -> AsyncIterator[AlertWorld]:
    app, client = app_and_client
    opened = AlertWorld(app.state.services, client, tenant_id, receiver)
    await opened.create_tenant()
    yield opened
    await opened.forget_deliveries()
    await opened.assert_consistent()


@pytest.fixture
async def other_world(app_and_client: Any, receiver: WebhookReceiver) -> AsyncIterator[AlertWorld]:
    """Another tenant of the same application."""
    app, client = app_and_client
    opened = AlertWorld(app.state.services, client, f"t-{new_id().hex}", receiver)
    await opened.create_tenant()
    yield opened
    await opened.forget_deliveries()
    await opened.assert_consistent()
