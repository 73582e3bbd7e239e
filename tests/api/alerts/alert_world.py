"""What tests of alerts do in a tenant of a running application."""

from typing import Any

import httpx

from service.alerts.evaluation import Evaluator
from service.alerts.schedule import AlertSchedule
from service.composition import Services
from service.kit.ids import new_id
from service.settings import AlertsSettings
from tests.api.checks.world import World, until
from tests.webhook_receiver import Received, WebhookReceiver

SHARES = [0.5, 0.8, 1.0]


class AlertWorld(World):
    def __init__(
        self, services: Services, client: httpx.AsyncClient, tenant_id: str, receiver: WebhookReceiver
    ) -> None:
        super().__init__(services, client, tenant_id)
        self.receiver = receiver

    async def alerts(self, **parameters: Any) -> list[Any]:
        """Return the alerts of the tenant, the oldest first."""
        page = await self.call("GET", "/v1/alerts", params=parameters)
        assert page["next_cursor"] is None
        return list(reversed(page["alerts"]))

    async def raised(self, count: int) -> list[Any]:
        """Wait for so many alerts, and return them."""

        async def are_there() -> bool:
            return len(await self.alerts()) >= count

        await until(are_there)
        alerts = await self.alerts()
        assert len(alerts) == count, [alert["text"] for alert in alerts]
        return alerts

    async def make_pass(self) -> int:
        """Let the schedule look at everything now; return how many alerts it has raised, of any tenant."""
        pool = self.services.pools.postgres
        schedule = AlertSchedule(pool, Evaluator(pool, lambda: None), AlertsSettings())
        async with pool.connection() as connection:
            return await schedule.evaluate_all(connection)

    async def create_webhook(self, **fields: Any) -> tuple[Any, str]:
        """Create a webhook at a path of its own; return it and the path."""
        path = f"/{new_id().hex}"
        body = {"url": f"{self.receiver.url}{path}"} | fields
        return await self.call("POST", "/v1/webhooks", json=body, expect=201), path

    async def received(self, path: str, count: int = 1) -> list[Received]:
        """Wait for so many requests at a path, and return them."""

        async def are_there() -> bool:
            return len(self.receiver.at(path)) >= count

        await until(are_there)
        return self.receiver.at(path)

    async def deliveries(self, **parameters: Any) -> list[Any]:
        """Return the deliveries of the tenant, the oldest first."""
        page = await self.call("GET", "/v1/alerts/deliveries", params=parameters)
        return list(reversed(page["deliveries"]))

    async def settled(self, state: str, count: int = 1) -> list[Any]:
        """Wait for so many deliveries in a state, and return them."""

        async def are_there() -> bool:
            return len(await self.deliveries(state=state)) >= count

        await until(are_there)
        return await self.deliveries(state=state)

    async def forget_deliveries(self) -> None:
        """Leave nothing that would take up room at the one host all tests deliver to."""
        await self.execute("DELETE FROM webhook_delivery WHERE tenant_id = %s", self.tenant_id)

    async def execute(self, statement: str, *parameters: Any) -> None:
        async with self.services.pools.postgres.connection() as connection:
            await connection.execute(statement, parameters)  # type: ignore[arg-type]
