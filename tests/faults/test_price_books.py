"""Price books and several server processes: what one has imported, each of them prices by when the answer is there."""

import json
from typing import Any

from tests.faults.chat_events import chat_event
from tests.faults.conftest import Tenant
from tests.faults.replica import Caller, together

MODEL = "gpt-4.1-mini"


async def import_price(caller: Caller, usd: int) -> str:
    """Make it the only price of the tenant, since ever, and return the version."""
    body = json.dumps(
        {MODEL: {"input_cost_per_token": usd, "output_cost_per_token": usd, "litellm_provider": "openai"}}
    )
    query = "/v1/price-books?effective_from=1970-01-01"
    shown = await caller.call("POST", f"{query}&dry_run=true", content=body)
    answer = await caller.call("POST", f"{query}&accept={shown['version']}", content=body, status=201)
    assert answer["is_known_everywhere"] is True
    return str(answer["version"])


async def version_of(caller: Caller, result: dict[str, Any]) -> str:
    charge = await caller.call("GET", f"/v1/charges/{result['charge_id']}")
    return str(charge["price_book_version"])


async def test_an_event_at_any_process_is_priced_by_the_book_imported_just_before_at_another(
    callers: list[Caller], tenant: Tenant
):
    for usd in range(1, 9):
        version = await import_price(callers[usd % len(callers)], usd)
        answers = await together(caller.post(chat_event()) for caller in callers)
        found = [await version_of(callers[0], answer["results"][0]) for answer in answers]
        assert found == [version] * len(callers)


async def test_a_process_killed_while_it_follows_holds_no_import_up(
    callers: list[Caller], tenant: Tenant, start_server: Any
):
    doomed = await start_server()
    doomed.process.kill()
    version = await import_price(callers[0], 1)
    answer = await callers[1].post(chat_event())
    assert await version_of(callers[1], answer["results"][0]) == version
