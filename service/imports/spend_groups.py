"""Rows of LiteLLM's spend logs, summed up per quarter of an hour and all that budgets look at. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from service.identity.aliases import AliasBook
from service.identity.call import AUTOMATIC_TAG
from service.identity.dimensions import Dimensions, clean_value
from service.identity.known_key import KeyFacts
from service.identity.models import ModelClaims
from service.identity.resolution import resolve_models
from service.imports.plan import PlannedKey
from service.imports.spend import IMPORT_SOURCE, digest_of
from service.kit.money import EXACT, ZERO, format_amount
from service.ledger.openings import Opening

_REASON: Final = "spend logs of LiteLLM"

_tags = msgspec.json.Decoder(list[Any])


class SpendGroup(msgspec.Struct, frozen=True, kw_only=True):
    """One group. `latest`: start of its newest call, naive UTC."""

    bucket: int
    latest: datetime
    api_key: str | None
    team: str | None
    user: str | None
    organization: str | None
    project: str | None
    end_user: str | None
    agent: str | None
    session: str | None
    tags: str | None
    requested_group: str | None
    model_group: str | None
    model: str | None
    deployment_id: str | None
    provider: str | None
    amount_usd: Decimal
    calls: int
    input_tokens: int
    output_tokens: int

    @property
    def digest(self) -> str:
        """What the group is, without its sums: the same at every import."""
        return digest_of(
            self.bucket, self.api_key, self.team, self.user, self.organization, self.project, self.end_user,
            self.agent, self.session, self.tags, self.requested_group, self.model_group, self.model, self.deployment_id,
            self.provider,
        )  # fmt: skip


def event_id_of(group: SpendGroup) -> str:
    """Return the id of the opening that brings what is recorded of a group up to its sum."""
    return f"logs:{group.digest}:{format_amount(group.amount_usd)}"


def digest_of_event_id(event_id: str) -> str | None:
    """Return the group an opening belongs to, None for openings of other kinds."""
    kind, _, rest = event_id.partition(":")
    return rest.partition(":")[0] if kind == "logs" else None


class GroupOpenings:
    """Makes openings of groups, named as events of the same calls would be."""

    def __init__(self, keys: Mapping[str, PlannedKey], aliases: AliasBook, recorded: Mapping[str, Decimal]) -> None:
        self._keys = keys
        self._aliases = aliases
        self._recorded = recorded

    def opening_of(self, group: SpendGroup) -> Opening | None:
        """Return what is still to be recorded of a group; None when that is nothing."""
        rest = EXACT.subtract(group.amount_usd, self._recorded.get(group.digest, ZERO))
        if rest <= 0:
            return None
        spent_at = group.latest.replace(tzinfo=UTC)
        claims = ModelClaims(
            requested_model=group.requested_group or None,
            model_group=group.model_group or None,
            model=group.model or None,
            deployment_id=group.deployment_id or None,
            provider=group.provider or None,
        )
        return Opening(
            source=IMPORT_SOURCE,
            event_id=event_id_of(group),
            spent_at=spent_at,
            amount_usd=rest,
            reason=_REASON,
            dimensions=self._dimensions(group),
            models=resolve_models(claims, self._aliases, spent_at),
            quantities={
                "litellm_calls": group.calls,
                "litellm_input_tokens": group.input_tokens,
                "litellm_output_tokens": group.output_tokens,
            },
        )

    def _dimensions(self, group: SpendGroup) -> Dimensions:
        """Return who it was: as the log says, completed by the key where the log leaves out what goes with it."""
        values = {
            name: clean_value(name, text) if (text := getattr(group, name)) else None
            for name in ("organization", "team", "project", "user", "api_key", "end_user", "agent", "session")
        }
        known = self._keys.get(values["api_key"] or "")
        if known is not None and _is_still_of(known.facts, values):
            for name in ("organization", "project"):
                values[name] = values[name] or getattr(known.facts, name)
        return Dimensions(**values, tags=read_tags(group.tags))


def _is_still_of(facts: KeyFacts, values: Mapping[str, str | None]) -> bool:
    """Tell whether the key belonged to the team of the log row, as it does now."""
    return facts.team == values["team"]


def read_tags(text: str | None) -> tuple[str, ...]:
    """Return the tags somebody chose, in any number; a column that holds its list as a text is read, too."""
    if not text:
        return ()
    try:
        content = _tags.decode(text)
    except msgspec.ValidationError:
        try:
            content = _tags.decode(msgspec.json.decode(text, type=str))
        except (msgspec.DecodeError, msgspec.ValidationError):
            return ()
    except (msgspec.DecodeError, RecursionError):
        return ()
    tags = dict.fromkeys(
        tag for value in content if isinstance(value, str) and (tag := clean_value("tag", value)) is not None
    )
    return tuple(tag for tag in tags if not tag.lower().startswith(AUTOMATIC_TAG))
