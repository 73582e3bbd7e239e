"""Pages of charges to be priced anew: each present charge once, in order, however few meet the filter."""

from datetime import timedelta

import pytest

from service.kit.clock import utc_now
from service.ledger.filters import Position, TimeRange
from service.repricing import queries
from service.repricing.terms import RepricingTerms
from tests.builders import a_litellm_event
from tests.integration.repricing.calls import an_unpriced_event
from tests.integration.repricing.world import World


@pytest.fixture
async def mixed(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Forty charges of two instants, every fifth of them unpriced, one reversed; pages and slices are small."""
    monkeypatch.setattr(queries, "PAGE_CHARGES", 3)
    monkeypatch.setattr(queries, "_SLICE_CHARGES", 7)
    began = utc_now().replace(microsecond=0) - timedelta(minutes=5)
    events = [
        (an_unpriced_event if number % 5 == 0 else a_litellm_event)(
            began_at=began + timedelta(seconds=number // 20), metadata={"user_api_key_team_id": f"team-{number}"}
        )
        for number in range(40)
    ]
    results = await world.post(*events)
    path = f"/v1/charges/{results[10]['charge_id']}/reverse"
    await world.call("POST", path, json={"reason": "test"}, status=201)
    return world


async def _read(world: World, terms: RepricingTerms, after: Position | None = None) -> list[Position]:
    begun_at = await queries.read_now(world.pools.postgres)
    seen = []
    async for page in queries.read_pages(world.pools.postgres, world.tenant_id, terms, begun_at, after):
        assert len(page.charges) <= 3
        seen += [Position(row["effective_at"], row["charge_id"]) for row in page.charges]
    return seen


def _terms(**filters: str) -> RepricingTerms:
    now = utc_now()
    time_range = TimeRange(now - timedelta(days=1), now + timedelta(days=1))
    return RepricingTerms(time_range=time_range, filter={name: [value] for name, value in filters.items()})


async def test_every_present_charge_is_read_once_and_in_order(mixed: World) -> None:
    seen = await _read(mixed, _terms())
    assert [position.charge_id for position in seen] == await mixed.present()
    assert len(seen) == 39


async def test_a_filter_few_charges_meet_finds_them_all(mixed: World) -> None:
    unpriced = await _read(mixed, _terms(price_state="unpriced"))
    assert len(unpriced) == 7
    assert await _read(mixed, _terms(team="team-39")) == [(await _read(mixed, _terms()))[-1]]
    assert await _read(mixed, _terms(team="nobody")) == []


@pytest.mark.parametrize("filters", [{}, {"price_state": "!free"}], ids=["whole", "sliced"])
async def test_reading_goes_on_behind_any_charge(mixed: World, filters: dict[str, str]) -> None:
    whole = await _read(mixed, _terms(**filters))
    for number in (0, 1, 18, 19, 20, 37, 38):
        assert await _read(mixed, _terms(**filters), after=whole[number]) == whole[number + 1 :]


async def test_what_was_recorded_after_it_began_is_not_read(mixed: World) -> None:
    begun_at = await queries.read_now(mixed.pools.postgres)
    await mixed.post(a_litellm_event())
    pages = queries.read_pages(mixed.pools.postgres, mixed.tenant_id, _terms(), begun_at, None)
    assert sum([len(page.charges) async for page in pages]) == 39


async def test_a_preview_and_what_is_applied_show_the_same_groups(world: World) -> None:
    """The one is added up here, the other by the database from the corrections."""
    await world.post(
        *(
            an_unpriced_event(
                metadata={"user_api_key_team_id": f"team-{number % 30}"},
                usage={"prompt_tokens": 100 * (number % 30), "completion_tokens": 7},
            )
            for number in range(60)
        )
    )
    await world.declare_alias("azure/contoso-chat-01", "openai/gpt-4.1-mini")
    preview, applied = await world.reprice(apply=False), await world.reprice()
    assert preview["result"] == applied["result"]
    assert len(applied["result"]["teams"]) == 20
