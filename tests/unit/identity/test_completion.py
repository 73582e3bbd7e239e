from datetime import UTC, datetime, timedelta

from service.identity.completion import complete_dimensions, effective_key
from service.identity.dimensions import Dimensions
from service.identity.known_key import KeyFacts, KeyLesson, KnownKey, key_lesson, merge_lessons

NOW = datetime(2026, 11, 6, tzinfo=UTC)


def test_values_rank_pinned_declared_carried_learned() -> None:
    key = KnownKey(
        api_key="k",
        is_declared=True,
        declared=KeyFacts(team="declared", user="declared"),
        learned=KeyFacts(team="learned", user="learned", organization="learned", project="learned"),
    )
    carried = Dimensions(api_key="k", team="carried", user="carried", organization="carried", tags=("x",))
    completed = complete_dimensions(carried, key, {"team": "pinned"})
    assert completed.values == Dimensions(
        api_key="k", team="pinned", user="declared", organization="carried", project="learned", tags=("x",)
    )
    assert completed.provenance == {
        "api_key": "carried",
        "team": "pinned",
        "user": "declared",
        "organization": "carried",
        "project": "learned",
        "tag": "carried",
    }


def test_a_call_of_an_unknown_key_keeps_what_it_carries() -> None:
    carried = Dimensions(api_key="k", end_user="e", agent="a", session="s")
    completed = complete_dimensions(carried, None)
    assert completed.values == carried
    assert not completed.is_key_blocked


def test_a_blocked_key_is_said_to_be_blocked() -> None:
    key = KnownKey(api_key="k", is_declared=True, is_blocked=True)
    assert complete_dimensions(Dimensions(api_key="k"), key, {}).is_key_blocked


def test_the_key_that_is_looked_up_is_the_pinned_one() -> None:
    assert effective_key(Dimensions(api_key="carried"), {"api_key": "pinned"}) == "pinned"
    assert effective_key(Dimensions(api_key="carried")) == "carried"
    assert effective_key(Dimensions()) is None


def a_lesson(team: str | None, *, minute: int, user: str | None = None) -> KeyLesson:
    dimensions = Dimensions(api_key="k", team=team, user=user)
    return KeyLesson(dimensions=dimensions, occurred_at=NOW + timedelta(minutes=minute))


def test_of_several_events_the_newest_teaches_and_the_others_complete() -> None:
    (learned,) = merge_lessons([a_lesson("new", minute=2), a_lesson("old", minute=1, user="u")])
    assert learned.facts == KeyFacts(team="new", user="u")
    assert learned.occurred_at == NOW + timedelta(minutes=2)


def test_an_event_without_key_or_without_anything_beside_it_teaches_nothing() -> None:
    keyless = KeyLesson(dimensions=Dimensions(team="t"), occurred_at=NOW)
    assert merge_lessons([keyless, a_lesson(None, minute=1)]) == []


def test_what_a_token_pins_is_learned_instead_of_what_the_event_says() -> None:
    lesson = key_lesson(Dimensions(api_key="k", team="said"), {"team": "pinned", "source": "x"}, NOW, "checkout")
    assert lesson.dimensions == Dimensions(api_key="k", team="pinned")
    assert lesson.alias == "checkout"


def test_the_name_of_a_carried_key_is_not_learned_for_a_pinned_one() -> None:
    lesson = key_lesson(Dimensions(api_key="k"), {"api_key": "pinned"}, NOW, "checkout")
    assert (lesson.dimensions.api_key, lesson.alias) == ("pinned", None)
