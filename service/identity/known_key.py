"""What is known of a gateway key: what operators declared, and beside it what recorded events taught. Pure values."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import msgspec

from service.identity.dimensions import PEOPLE, Dimensions

KEY_FACTS: Final = ("team", "user", "organization", "project", "alias")


class KeyFacts(msgspec.Struct, frozen=True, kw_only=True):
    """To whom a key belongs; None = not known."""

    team: str | None = None
    user: str | None = None
    organization: str | None = None
    project: str | None = None
    alias: str | None = None

    def adds_to(self, other: "KeyFacts") -> bool:
        """Tell whether this says anything the other does not."""
        return any((value := getattr(self, name)) is not None and value != getattr(other, name) for name in KEY_FACTS)

    def over(self, other: "KeyFacts") -> "KeyFacts":
        """Return these facts, completed by the other's."""
        return KeyFacts(**{name: getattr(self, name) or getattr(other, name) for name in KEY_FACTS})


NOTHING: Final = KeyFacts()


class KnownKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key of the registry. A blocked key is a declared one: no event can block or unblock."""

    api_key: str
    is_declared: bool = False
    declared: KeyFacts = NOTHING
    learned: KeyFacts = NOTHING
    learned_from_occurred_at: datetime | None = None
    is_blocked: bool = False
    changed_at: datetime | None = None


class KeyLesson(msgspec.Struct, frozen=True, kw_only=True):
    """What one recorded event says of its key: nothing, if it names none."""

    dimensions: Dimensions
    occurred_at: datetime
    alias: str | None = None


class LearnedFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What some events together say of one key; the newest of them occurred then."""

    api_key: str
    facts: KeyFacts
    occurred_at: datetime


def key_lesson(
    carried: Dimensions, pinned: Mapping[str, str], occurred_at: datetime, alias: str | None = None
) -> KeyLesson:
    """Return what an event teaches: what it carried, but where the token that posted it says otherwise.

    `alias` is the readable name of the carried key; it is not that of a pinned one.
    """
    overwritten = {name: value for name, value in pinned.items() if name in PEOPLE}
    dimensions = msgspec.structs.replace(carried, **overwritten) if overwritten else carried
    return KeyLesson(dimensions=dimensions, occurred_at=occurred_at, alias=None if "api_key" in overwritten else alias)


def merge_lessons(lessons: Iterable[KeyLesson]) -> list[LearnedFacts]:
    """Return what is to be learned per key, in the order of the keys; fact by fact the newest event wins."""
    merged: dict[str, LearnedFacts] = {}
    for lesson in sorted(lessons, key=lambda lesson: lesson.occurred_at):
        facts = _facts(lesson)
        api_key = lesson.dimensions.api_key
        if api_key is None or facts == NOTHING:
            continue
        former = merged.get(api_key)
        merged[api_key] = LearnedFacts(
            api_key=api_key,
            facts=facts if former is None else facts.over(former.facts),
            occurred_at=lesson.occurred_at,
        )
    return [merged[api_key] for api_key in sorted(merged)]


def _facts(lesson: KeyLesson) -> KeyFacts:
    values = lesson.dimensions
    return KeyFacts(
        team=values.team, user=values.user, organization=values.organization, project=values.project, alias=lesson.alias
    )
