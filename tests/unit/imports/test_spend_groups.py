import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from service.identity.aliases import Alias, AliasBook
from service.identity.known_key import KeyFacts
from service.imports.plan import PlannedKey
from service.imports.spend_groups import GroupOpenings, SpendGroup, digest_of_event_id, event_id_of, read_tags
from tests.litellm_source import token_of

KEY = PlannedKey(
    api_key=token_of("k"), facts=KeyFacts(team="core", organization="acme", project="apollo"), is_blocked=False
)


def a_group(**changed: Any) -> SpendGroup:
    values: dict[str, Any] = {
        "bucket": 1, "latest": datetime(2026, 11, 3, 10, 14), "api_key": token_of("k"), "team": "core",  # noqa: DTZ001
        "user": None, "organization": None, "project": None, "end_user": None, "agent": None, "session": None,
        "tags": None, "requested_group": None, "model_group": "gpt-4.1-mini", "model": "gpt-4.1-mini",
        "deployment_id": None, "provider": "openai", "amount_usd": Decimal("1.5"), "calls": 3, "input_tokens": 30,
        "output_tokens": 5,
    }  # fmt: skip
    return SpendGroup(**values | changed)


def openings(recorded: dict[str, Decimal] | None = None, aliases: AliasBook | None = None) -> GroupOpenings:
    return GroupOpenings({KEY.api_key: KEY}, aliases or AliasBook(), recorded or {})


def test_a_group_becomes_one_opening_named_as_its_events_would_be():
    opening = openings().opening_of(a_group())
    assert opening is not None
    assert opening.models is not None
    assert opening.spent_at == datetime(2026, 11, 3, 10, 14, tzinfo=UTC)
    assert (opening.models.requested_model, opening.models.served_model) == ("gpt-4.1-mini", "openai/gpt-4.1-mini")
    assert (opening.dimensions.organization, opening.dimensions.project) == ("acme", "apollo")


def test_only_what_is_not_recorded_yet_is_brought():
    group = a_group()
    opening = openings({group.digest: Decimal("1.2")}).opening_of(group)
    assert opening is not None
    assert opening.amount_usd == Decimal("0.3")
    assert openings({group.digest: Decimal("1.5")}).opening_of(group) is None
    assert openings({group.digest: Decimal(2)}).opening_of(group) is None, "pruned logs take nothing back"


def test_the_id_tells_the_group_and_changes_with_its_sum():
    one, more = a_group(), a_group(amount_usd=Decimal(2), calls=9)
    assert digest_of_event_id(event_id_of(one)) == digest_of_event_id(event_id_of(more)) == one.digest
    assert event_id_of(one) != event_id_of(more)
    assert digest_of_event_id("sum:abc:1:2") is None


@pytest.mark.parametrize("name", list(SpendGroup.__struct_fields__)[2:16])
def test_groups_that_differ_in_anything_budgets_look_at_are_others(name: str):
    assert a_group().digest != msgspec.structs.replace(a_group(), **{name: "other"}).digest


def test_a_key_that_belonged_to_another_team_then_lends_nothing():
    opening = openings().opening_of(a_group(team="former"))
    assert opening is not None
    assert (opening.dimensions.team, opening.dimensions.organization) == ("former", None)


def test_the_requested_model_of_a_fallback_is_kept_and_aliases_count():
    book = AliasBook([Alias(alias="gpt-4.1", model="gpt-4.1-2025-04-14")])
    opening = openings(aliases=book).opening_of(a_group(requested_group="gpt-4.1"))
    assert opening is not None
    assert opening.models is not None
    assert opening.models.requested_model == "gpt-4.1"
    assert opening.models.requested_canonical == "gpt-4.1-2025-04-14"


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ('["a", "b", "a", "User-Agent: x", "user-agent: y", "", null, 1]', ("a", "b")),
        ('"[\\"a\\"]"', ("a",)),
        (json.dumps([f"t{number}" for number in range(99)]), tuple(f"t{number}" for number in range(99))),
        ('{"a": 1}', ()),
        ("broken", ()),
        ("[" * 5000, ()),
        (None, ()),
    ],
)
def test_tags_are_those_somebody_chose(text: str | None, tags: tuple[str, ...]):
    assert read_tags(text) == tags
