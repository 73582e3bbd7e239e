"""Wire shapes of aliases and keys."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from service.errors import InvalidInput
from service.identity.aliases import BEGINNING, Alias
from service.identity.dimensions import clean_value, is_plain_key
from service.identity.known_key import KeyFacts, KnownKey
from service.identity.names import clean_name
from service.identity.repository import AliasRow
from service.identity.repricing_offer import RepricingOffer
from service.kit.instants import bounded_instant
from service.kit.text import stripped_text

MAX_TEXT = 256

AwareTime = Annotated[datetime, Meta(tz=True)]
Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]


class AliasRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An alias to be declared; without dates it holds for all times."""

    alias: Text
    model: Text
    effective_from: AwareTime | None = None
    effective_to: AwareTime | None = None

    def to_rule(self) -> Alias:
        """Return the alias. Raises InvalidInput with the field that cannot be taken."""
        start = BEGINNING if self.effective_from is None else bounded_instant(self.effective_from, "effective_from")
        end = None if self.effective_to is None else bounded_instant(self.effective_to, "effective_to")
        if end is not None and end <= start:
            raise InvalidInput("An alias has to begin before it ends.", field="effective_to")
        return Alias(
            alias=_checked_name(self.alias, "alias"),
            model=_checked_name(self.model, "model"),
            effective_from=start,
            effective_to=end,
        )


class AliasView(msgspec.Struct, kw_only=True):
    """A declared alias; `effective_to` null = without end."""

    id: str
    alias: str
    model: str
    effective_from: datetime
    effective_to: datetime | None
    created_at: datetime


class DeclaredAlias(AliasView, kw_only=True):
    """An alias just declared; `repricing_offers`: charges without a price that have one by now (null = not known)."""

    repricing_offers: list[RepricingOffer] | None


class AliasList(msgspec.Struct):
    """A page of aliases."""

    aliases: list[AliasView]
    next_cursor: str | None


class KeyRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is declared of a key; what is left out is not declared."""

    team: Text | None = None
    user: Text | None = None
    organization: Text | None = None
    project: Text | None = None
    alias: Text | None = None
    blocked: bool = False

    def to_facts(self) -> KeyFacts:
        """Return what is declared. Raises InvalidInput with the field that cannot be taken."""
        return KeyFacts(
            team=_checked_fact(self.team, "team"),
            user=_checked_fact(self.user, "user"),
            organization=_checked_fact(self.organization, "organization"),
            project=_checked_fact(self.project, "project"),
            alias=_checked_fact(self.alias, "alias"),
        )


class FactsView(msgspec.Struct, kw_only=True):
    """To whom a key belongs; null = not known."""

    team: str | None
    user: str | None
    organization: str | None
    project: str | None
    alias: str | None


class KeyView(FactsView, kw_only=True):
    """A key: on top what counts unless a call says otherwise, beneath it what was declared and what was learned."""

    api_key: str
    blocked: bool
    is_declared: bool
    declared: FactsView | None
    learned: FactsView | None
    learned_from_occurred_at: datetime | None
    changed_at: datetime | None


class KeyList(msgspec.Struct):
    """A page of keys."""

    keys: list[KeyView]
    next_cursor: str | None


def checked_text(text: str, field: str) -> str:
    """Return the text without blanks around it. Raises InvalidInput when it is empty, too long or not printable."""
    stripped = stripped_text(text)
    if not stripped or len(stripped) > MAX_TEXT or not stripped.isprintable():
        raise InvalidInput(f"This takes 1 to {MAX_TEXT} printable characters.", field=field)
    return stripped


def checked_api_key(text: str) -> str:
    """Return the id of a key as events carry it: the SHA-256 in lower-case hex, or another gateway's own id.

    Raises InvalidInput for what looks like the key itself: it must never come to lie in a table.
    """
    api_key = checked_text(text, "api_key")
    if is_plain_key(api_key):
        detail = "Keys are named by their SHA-256 in hex, never in plain."
        raise InvalidInput(detail, code="api_key_in_clear", field="api_key")
    return clean_value("api_key", api_key) or api_key


def alias_view(row: AliasRow) -> AliasView:
    """Return an alias for the wire."""
    return AliasView(
        id=str(row.alias_id),
        alias=row.alias,
        model=row.model,
        effective_from=row.effective_from,
        effective_to=row.effective_to,
        created_at=row.created_at,
    )


def declared_alias(row: AliasRow, offers: list[RepricingOffer] | None) -> DeclaredAlias:
    """Return an alias just declared for the wire."""
    return DeclaredAlias(**msgspec.structs.asdict(alias_view(row)), repricing_offers=offers)


def key_view(known: KnownKey) -> KeyView:
    """Return a key for the wire."""
    in_force = known.declared.over(known.learned)
    return KeyView(
        api_key=known.api_key,
        **msgspec.structs.asdict(in_force),
        blocked=known.is_blocked,
        is_declared=known.is_declared,
        declared=_facts_view(known.declared) if known.is_declared else None,
        learned=None if known.learned_from_occurred_at is None else _facts_view(known.learned),
        learned_from_occurred_at=known.learned_from_occurred_at,
        changed_at=known.changed_at,
    )


def _facts_view(facts: KeyFacts) -> FactsView:
    return FactsView(**msgspec.structs.asdict(facts))


def _checked_name(text: str, field: str) -> str:
    name = clean_name(checked_text(text, field))
    if name is None:
        raise InvalidInput("There is no name in this.", field=field)
    return name


def _checked_fact(text: str | None, field: str) -> str | None:
    return None if text is None else checked_text(text, field)
