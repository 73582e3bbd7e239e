"""A tenant of the whole application: what an operator and a gateway say to it, and what its ledger comes to."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx

from service.db.pools import Pools
from service.kit.clock import utc_now
from tests.builders import CAPTURED, captured_events

LONG_AGO = "2020-01-01T00:00:00Z"
# Wire forms that say their times in other fields, or hold elements that are no events.
_OTHER_FORMS = {"legacy_v1", "format_json_array"}

_MEASURES = (
    "sum(requests), sum(failed_requests), sum(unpriced_requests), sum(input_tokens), sum(output_tokens),"
    " sum(cache_read_input_tokens), sum(cache_write_input_tokens), sum(reasoning_output_tokens), sum(cost_usd),"
    " sum(model_cost_usd), sum(fees_usd), sum(list_cost_usd), sum(enforced_usd)"
)
_TOTALS = f"""
SELECT bucket, key_digest, served_model, price_state, {_MEASURES} FROM spend_total WHERE tenant_id = %s
GROUP BY 1, 2, 3, 4 HAVING bool_or(requests <> 0 OR cost_usd <> 0 OR enforced_usd <> 0) ORDER BY 1, 2
"""
_LABELS = f"""
SELECT bucket, label, value, {_MEASURES} FROM spend_label_total WHERE tenant_id = %s
GROUP BY 1, 2, 3 HAVING bool_or(requests <> 0 OR cost_usd <> 0 OR enforced_usd <> 0) ORDER BY 1, 2, 3
"""
_WINDOWS = """
SELECT b.slug, w.subject, w.bucket, w.enforced FROM budget_window AS w JOIN budget AS b USING (tenant_id, budget_id)
WHERE tenant_id = %s AND w.enforced <> 0 ORDER BY 1, 2, 3
"""


class World:
    """One tenant, asked through HTTP as its administrator."""

    def __init__(self, client: httpx.AsyncClient, pools: Pools, tenant_id: str, token: str) -> None:
        self.client = client
        self.pools = pools
        self.tenant_id = tenant_id
        self._headers = {"Authorization": f"Bearer {token}"}

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self.client.request(method, path, headers=self._headers, timeout=60, **options)

    async def call(self, method: str, path: str, *, status: int = 200, **options: Any) -> Any:
        response = await self.ask(method, path, **options)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text[:2000]}"
        return response.json() if response.content else None

    async def post(self, *events: dict[str, Any]) -> list[dict[str, Any]]:
        """Post events; return what became of each."""
        answer = await self.call("POST", "/v1/events?results=all", json=list(events))
        assert answer["rejected"] == 0, answer
        results: list[dict[str, Any]] = answer["results"]
        return results

    async def create_budget(self, slug: str, match: dict[str, Any]) -> None:
        body = {"slug": slug, "match": match, "limit_usd": "1000000", "period": {"kind": "lifetime"}}
        await self.call("POST", "/v1/budgets", json=body, status=201)

    async def declare_alias(self, alias: str, model: str) -> None:
        await self.call("POST", "/v1/aliases", json={"alias": alias, "model": model}, status=201)

    async def reprice(self, *, apply: bool = True, **filters: Any) -> dict[str, Any]:
        """Price the charges of these days anew, to the end."""
        answer: dict[str, Any] = await self.call("POST", "/v1/repricings", json=a_repricing(apply=apply, **filters))
        assert answer["state"] == "done", answer
        return answer

    async def charge(self, charge_id: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.call("GET", f"/v1/charges/{charge_id}")
        return found

    async def rows(self, statement: str, *parameters: Any) -> list[Any]:
        async with self.pools.postgres.connection() as connection:
            return await (await connection.execute(statement, parameters)).fetchall()  # type: ignore[arg-type]

    async def present(self) -> list[UUID]:
        """Return the charges that nothing has reversed."""
        rows = await self.rows(
            "SELECT charge_id FROM charge AS c WHERE tenant_id = %s AND kind <> 'reversal' AND NOT EXISTS ("
            "SELECT FROM charge AS r WHERE r.tenant_id = c.tenant_id AND r.kind = 'reversal'"
            " AND r.corrects_charge_id = c.charge_id) ORDER BY effective_at, charge_id",
            self.tenant_id,
        )
        return [row[0] for row in rows]

    async def spent(self) -> Decimal:
        [(spent,)] = await self.rows(
            "SELECT COALESCE(sum(cost_usd), 0) FROM charge WHERE tenant_id = %s", self.tenant_id
        )
        return Decimal(spent)

    async def sums(self) -> dict[str, list[Any]]:
        """Return every sum the ledger keeps, without those that have come to nothing."""
        return {
            "totals": await self.rows(_TOTALS, self.tenant_id),
            "labels": await self.rows(_LABELS, self.tenant_id),
            "windows": await self.rows(_WINDOWS, self.tenant_id),
        }


def a_repricing(*, apply: bool = True, **filters: Any) -> dict[str, Any]:
    """Return the body of a repricing of these days."""
    now = utc_now()
    span = {"from": (now - timedelta(days=2)).isoformat(), "to": (now + timedelta(days=1)).isoformat()}
    return {**span, "filter": filters, "apply": apply}


def captured_calls(began_at: datetime) -> list[dict[str, Any]]:
    """Return all captured calls as if they had been made one after another from then on."""
    names = sorted(path.stem for path in CAPTURED.glob("*.json") if path.stem not in _OTHER_FORMS)
    events = [event for name in names for event in captured_events(f"{name}.json") if event]
    return [at(event, began_at + timedelta(milliseconds=10 * number)) for number, event in enumerate(events)]


def at(event: dict[str, Any], began_at: datetime) -> dict[str, Any]:
    """Return a captured event as if its call had begun then."""
    start = began_at.timestamp()
    lasted = float(event["endTime"]) - float(event["startTime"])
    return event | {"startTime": start, "endTime": start + lasted, "completionStartTime": start + lasted}
