"""One tenant of a running application, driven over HTTP."""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import httpx

from service.access.service import TokenService
from service.access.tokens import ROLES, TokenTerms
from service.checks.ledger_reader import LedgerReader
from service.checks.sweep import Sweep, SweepResult
from service.composition import Services
from service.kit.clock import monotonic, utc_now
from service.kit.ids import new_id
from tests import oracle

MODEL = "gpt-4.1-mini"


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    deadline = monotonic() + seconds
    while not await holds():
        assert monotonic() < deadline, "the condition did not come to hold in time"
        await asyncio.sleep(0.02)


class World:
    def __init__(self, services: Services, client: httpx.AsyncClient, tenant_id: str) -> None:
        self.services = services
        self.client = client
        self.tenant_id = tenant_id
        self.headers: dict[str, str] = {}

    async def create_tenant(self) -> None:
        async with self.services.pools.postgres.connection() as connection:
            await connection.execute(
                "INSERT INTO tenant (tenant_id, name) VALUES (%s, 'test') ON CONFLICT DO NOTHING", (self.tenant_id,)
            )
        self.headers = await self.make_token()

    async def make_token(self, **changed: Any) -> dict[str, str]:
        terms = TokenTerms(**{"name": "test", "roles": ROLES} | changed)
        created = await TokenService(self.services.pools.postgres).create(self.tenant_id, terms, None)
        return {"authorization": f"Bearer {created.text}"}

    async def call(self, method: str, path: str, *, expect: int = 200, headers: Any = None, **request: Any) -> Any:
        answer = await self.client.request(method, path, headers=headers or self.headers, **request)
        assert answer.status_code == expect, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

    async def put_budget(self, slug: str = "b", **fields: Any) -> Any:
        body = {"name": slug, "match": {}, "limit_usd": "1", "period": {"kind": "lifetime"}} | fields
        answer = await self.client.put(f"/v1/budgets/{slug}", headers=self.headers, json=body)
        assert answer.status_code in {200, 201}, answer.text
        budget = answer.json()

        async def is_current() -> bool:
            shown = await self.call("GET", f"/v1/budgets/{slug}")
            return bool(shown["state"] == "current")

        await until(is_current)
        return budget

    async def check(self, *, expect: int = 200, query: str = "", headers: Any = None, **body: Any) -> Any:
        document = {"model": MODEL, "input_tokens": 1000, "max_output_tokens": 100} | body
        return await self.call("POST", f"/v1/check{query}", expect=expect, headers=headers, json=document)

    async def post_event(self, *, cost: str | None = None, **fields: Any) -> Any:
        """Post an event as LiteLLM would; `cost`: the gateway's figure of a model nobody else has a price for."""
        now = utc_now().timestamp()
        event = {
            "id": f"chatcmpl-{new_id()}",
            "litellm_call_id": str(new_id()),
            "call_type": "acompletion",
            "status": "success",
            "model": MODEL,
            "model_group": MODEL,
            "custom_llm_provider": "openai",
            "prompt_tokens": 1000,
            "completion_tokens": 100,
            "total_tokens": 1100,
            "response_cost": 0.0,
            "startTime": now - 1,
            "endTime": now,
            "metadata": {},
        }
        if cost is not None:
            event |= {
                "model": "house-model",
                "model_group": "house-model",
                "custom_llm_provider": "custom",
                "response_cost": float(cost),
            }
        answer = await self.call("POST", "/v1/events", json=event | fields)
        assert answer["recorded"] == 1, answer
        return answer["results"][0]

    async def sweep(self) -> SweepResult:
        ledger = LedgerReader(self.services.pools.postgres)
        sweep = Sweep(self.services.pools.redis, ledger)
        result = await sweep.sweep(tenant_id=self.tenant_id)
        await sweep.close()
        await ledger.close()
        return result

    async def assert_consistent(self) -> None:
        """Totals equal charges, the outbox empties itself, counters equal the ledger."""
        pool = self.services.pools.postgres

        async def is_published() -> bool:
            async with pool.connection() as connection:
                cursor = await connection.execute("SELECT FROM outbox WHERE tenant_id = %s", (self.tenant_id,))
                return await cursor.fetchone() is None

        await until(is_published)
        await oracle.assert_totals_equal_charges(pool, self.tenant_id)
        assert (await self.sweep()).findings == []


def usd(text: str) -> Decimal:
    return Decimal(text)
