"""What tests say to one server as one caller."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import httpx

from tests.faults.chat_events import body
from tests.faults.server_process import ServerProcess

Answer = dict[str, Any]


class Caller:
    """One token at one server. Every method returns the decoded answer and refuses any other status than expected."""

    def __init__(self, replica: "Replica", token: str) -> None:
        self._replica = replica
        self._token = token

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self._token}"} | options.pop("headers", {})
        response = await self._replica.client.request(method, path, headers=headers, **options)
        assert response.status_code != httpx.codes.INTERNAL_SERVER_ERROR, self._replica.process.log()[-4000:]
        return response

    async def call(self, method: str, path: str, *, status: int = 200, **options: Any) -> Any:
        response = await self.request(method, path, **options)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text[:2000]}"
        return response.json() if response.content else None

    async def post(self, *events: Any, status: int = 200) -> Answer:
        """Post events as one array."""
        answer: Answer = await self.call("POST", "/v1/events?results=all", content=body(*events), status=status)
        return answer

    async def check(self, *, status: int = 200, **fields: Any) -> Answer:
        answer: Answer = await self.call("POST", "/v1/check", content=json.dumps(fields), status=status)
        return answer

    async def create_budget(self, slug: str, match: dict[str, Any], limit_usd: str, **fields: Any) -> Answer:
        """Create a lifetime budget, unless a period is given."""
        document = {"slug": slug, "match": match, "limit_usd": limit_usd, "period": {"kind": "lifetime"}} | fields
        answer: Answer = await self.call("POST", "/v1/budgets", json=document, status=201)
        return answer

    async def windows(self, slug: str) -> list[Answer]:
        windows: list[Answer] = (await self.call("GET", f"/v1/budgets/{slug}/windows"))["windows"]
        return windows

    async def posted_usd(self, slug: str) -> str:
        """Return what one shared counter has posted in its present window."""
        (window,) = await self.windows(slug)
        return str(window["posted_usd"])


class Replica:
    """A running server and a client of it."""

    def __init__(self, process: ServerProcess) -> None:
        self.process = process
        limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
        self.client = httpx.AsyncClient(base_url=process.url, timeout=30, limits=limits)

    def as_caller(self, token: str) -> Caller:
        return Caller(self, token)


async def together(calls: Iterable[Any]) -> list[Any]:
    """Await all calls at once."""
    return list(await asyncio.gather(*calls))
