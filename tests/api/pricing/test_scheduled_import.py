"""A server that was told where newer prices are."""

import asyncio
import json
from typing import Any

from service.access.repository import insert_tenant
from service.access.service import TokenService
from service.access.tokens import ROLES, TokenTerms
from service.app import create_app
from service.db import migrator
from service.db.embedded import EngineUrls
from service.db.pools import make_postgres_pool
from service.pricing.book_candidate import unpacked_map
from service.pricing.shipped import shipped_snapshot
from service.settings import PostgresSettings, PricesSettings, Settings
from tests.app_client import running_client
from tests.conftest import fresh_database
from tests.map_server import MapServer, answer


async def an_operator(database_url: str) -> dict[str, str]:
    async with make_postgres_pool(database_url, PostgresSettings()) as pool:
        async with pool.connection() as connection:
            await insert_tenant(connection, "default", "default")
        terms = TokenTerms(name="test", roles=ROLES, is_operator=True)
        created = await TokenService(pool).create("default", terms, None)
    return {"authorization": f"Bearer {created.text}"}


async def test_its_address_is_imported_for_the_whole_installation(
    engines: EngineUrls, redis_url: str, map_server: MapServer
):
    newer: dict[str, Any] = json.loads(unpacked_map(shipped_snapshot(), 1 << 25))
    newer["only-in-the-newer-map"] = {"input_cost_per_token": 1}
    map_server.answers["/map"] = answer(json.dumps(newer).encode())
    prices = PricesSettings(url=f"{map_server.url}/map", allow_private_addresses=True)
    with fresh_database(engines) as url:
        migrator.upgrade(url)
        headers = await an_operator(url)
        settings = Settings(prices=prices).with_engines(database_url=url, redis_url=redis_url)
        async with running_client(create_app(settings)) as client, asyncio.timeout(20):
            listed: list[dict[str, Any]] = []
            while len(listed) < 2:
                listed = (await client.get("/v1/price-books", headers=headers)).json()["price_books"]
            assert (listed[0]["imported_by"], listed[0]["origin"]) == ("tallygate schedule", f"{map_server.url}/map")
            trail = (await client.get("/v1/audit?scope=installation", headers=headers)).json()["entries"]
            assert [(entry["action"], entry["changed_by"]) for entry in trail] == [
                ("price_book.imported", "tallygate schedule")
            ]
            while True:
                found = await client.get("/v1/prices?key=only-in-the-newer-map", headers=headers)
                if found.status_code == 200:
                    break


async def test_without_an_address_nothing_is_downloaded(engines: EngineUrls, redis_url: str, map_server: MapServer):
    with fresh_database(engines) as url:
        migrator.upgrade(url)
        headers = await an_operator(url)
        settings = Settings().with_engines(database_url=url, redis_url=redis_url)
        async with running_client(create_app(settings)) as client:
            [shipped] = (await client.get("/v1/price-books", headers=headers)).json()["price_books"]
    assert shipped["imported_by"] == "tallygate"
    assert map_server.asked == []
