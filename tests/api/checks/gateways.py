"""A gateway that passes on requests of end clients, and what clients would send."""

import json
from hashlib import sha256
from typing import Any

import httpx

from tests.api.checks.world import MODEL, World

KEY = "sk-client-key-of-the-test"
KEY_ID = sha256(KEY.encode()).hexdigest()
AS_CLIENT = {"authorization": f"Bearer {KEY}"}
CALL = json.dumps({"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}).encode()

Headers = dict[str, str] | list[tuple[str, str]]


class Gateway:
    """One token with the role `check`, as a gateway uses it."""

    def __init__(self, world: World, token: str) -> None:
        self.world = world
        self.token = token

    async def authz(
        self,
        *,
        method: str = "POST",
        suffix: str = "/v1/chat/completions",
        headers: Headers | None = None,
        body: bytes = CALL,
    ) -> httpx.Response:
        return await self.send(method, f"/v1/check/authz{suffix}", headers=headers, content=body)

    async def nginx(self, headers: Headers | None = None) -> httpx.Response:
        return await self.send("GET", "/v1/check/nginx", headers=headers)

    async def guardrail(self, **body: Any) -> Any:
        answer = await self.send("POST", "/v1/check/guardrail/beta/litellm_basic_guardrail_api", {}, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def portkey(self, *, headers: Headers | None = None, **body: Any) -> Any:
        answer = await self.send("POST", "/v1/check/portkey", headers or {}, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def send(self, method: str, path: str, headers: Headers | None = None, **request: Any) -> httpx.Response:
        given = AS_CLIENT if headers is None else headers
        pairs = list(given.items()) if isinstance(given, dict) else given
        return await self.world.client.request(
            method, path, headers=[("x-tallygate-token", self.token), *pairs], **request
        )


async def open_gateway(world: World, **terms: Any) -> Gateway:
    """Return a gateway with a token of these terms."""
    made = await world.make_token(**({"roles": ("check",)} | terms))
    return Gateway(world, made["authorization"].removeprefix("Bearer "))
