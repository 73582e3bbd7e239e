"""The part of a proxy's configuration that an import needs: from its config.yaml, from its table, from both. Pure.

Scalars may be texts or numbers; what states no amount, or names its value in the environment, is told in `notes`.
"""

import re
from collections.abc import Mapping
from datetime import time
from decimal import Decimal
from typing import Any, Final
from zoneinfo import available_timezones

import msgspec

from service.imports.durations import ResetRules
from service.imports.source_rows import amount_of

_TIME_OF_DAY: Final = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)
SECTIONS: Final = ("litellm_settings", "router_settings", "general_settings")


class CachedBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A limit LiteLLM counts in its cache only, from first use."""

    max_budget: Decimal | None
    budget_duration: str | None


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `model_list`; `deployment_id` only where the configuration gives it one."""

    model_name: str
    model: str | None = None
    deployment_id: str | None = None
    budget: CachedBudget | None = None
    access_groups: tuple[str, ...] = ()


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What is configured, not stored per entity."""

    rules: ResetRules = ResetRules()
    max_budget: Decimal | None = None
    budget_duration: str | None = None
    max_end_user_budget: Decimal | None = None
    max_end_user_budget_id: str | None = None
    applies_user_budgets_to_team_keys: bool = False
    providers: dict[str, CachedBudget] = {}
    tags: dict[str, CachedBudget] = {}
    deployments: tuple[Deployment, ...] = ()
    aliases: dict[str, str] = {}
    notes: tuple[str, ...] = ()


def merged(file: object, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of a file with what the table of the proxy says instead, section by section."""
    document = dict(file) if isinstance(file, Mapping) else {}
    for section in SECTIONS:
        parts = [part for part in (document.get(section), stored.get(section)) if isinstance(part, Mapping)]
        document[section] = {name: value for part in parts for name, value in part.items()}
    return document


def gateway_config(document: Mapping[str, Any]) -> GatewayConfig:
    """Return the configuration a document states."""
    notes: list[str] = []
    settings, router, general = (_mapping(document.get(section)) for section in SECTIONS)
    return GatewayConfig(
        rules=ResetRules(
            _timezone(settings.get("timezone"), notes), _time_of_day(settings.get("budget_reset_time"), notes)
        ),
        max_budget=_amount(settings, "max_budget", notes),
        budget_duration=_text(settings.get("budget_duration")),
        max_end_user_budget=_amount(settings, "max_end_user_budget", notes),
        max_end_user_budget_id=_text(settings.get("max_end_user_budget_id")),
        applies_user_budgets_to_team_keys=_is_true(general.get("apply_user_budget_to_team_keys")),
        providers=_cached(router.get("provider_budget_config"), "provider_budget_config", notes),
        tags=_cached(settings.get("tag_budget_config"), "tag_budget_config", notes),
        deployments=tuple(_deployments(document.get("model_list"), notes)),
        aliases=_aliases(router.get("model_group_alias")),
        notes=tuple(notes),
    )


def string_list(value: object) -> tuple[str, ...]:
    """Return the texts of a list; anything else in it is none."""
    return tuple(text for text in value if isinstance(text, str) and text) if isinstance(value, list) else ()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value and not value.startswith("os.environ/") else None


def _is_true(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def _amount(settings: Mapping[str, Any], name: str, notes: list[str]) -> Decimal | None:
    value = settings.get(name)
    if value is None or value in {"", "null", "~"}:
        return None
    amount = amount_of(value)
    if amount is None:
        notes.append(f"{name}: {str(value)[:80]!r} is no amount; it is left out.")
    return amount


def _timezone(value: object, notes: list[str]) -> str:
    name = _text(value)
    if name is None:
        return "UTC"
    known = name in available_timezones() and name != "localtime"
    if not known:
        notes.append(f"timezone: {name[:80]!r} is no time zone; LiteLLM and this import count in UTC.")
    return name if known else "UTC"


def _time_of_day(value: object, notes: list[str]) -> time:
    text = _text(value)
    if text is None:
        return time(0)
    found = _TIME_OF_DAY.fullmatch(text.strip())
    try:
        return time(int(found[1]), int(found[2]), int(found[3] or 0)) if found else time.fromisoformat("")
    except ValueError:
        notes.append(f"budget_reset_time: {text[:80]!r} is no time of day; midnight is taken.")
        return time(0)


def _cached(value: object, name: str, notes: list[str]) -> dict[str, CachedBudget]:
    return {
        str(subject): _cached_budget(_mapping(entry), f"{name}.{subject}", notes)
        for subject, entry in _mapping(value).items()
    }


def _cached_budget(entry: Mapping[str, Any], name: str, notes: list[str]) -> CachedBudget:
    """Return a limit under either of the names LiteLLM takes."""
    amount_name = "max_budget" if entry.get("max_budget") is not None else "budget_limit"
    if entry.get(amount_name) is not None and amount_of(entry[amount_name]) is None:
        notes.append(f"{name}: {str(entry[amount_name])[:80]!r} is no amount; it is left out.")
    return cached_budget(entry)


def cached_budget(entry: Mapping[str, Any]) -> CachedBudget:
    """Return a limit under either of its names: max_budget or budget_limit, budget_duration or time_period."""
    limit = entry.get("max_budget") if entry.get("max_budget") is not None else entry.get("budget_limit")
    duration = entry.get("budget_duration") or entry.get("time_period")
    return CachedBudget(max_budget=amount_of(limit), budget_duration=_text(duration))


def _deployments(value: object, notes: list[str]) -> list[Deployment]:
    found = []
    for entry in value if isinstance(value, list) else []:
        parameters, details = (
            _mapping(_mapping(entry).get("litellm_params")),
            _mapping(_mapping(entry).get("model_info")),
        )
        name = _text(_mapping(entry).get("model_name"))
        if name is None:
            continue
        has_budget = parameters.get("max_budget") is not None
        found.append(
            Deployment(
                model_name=name,
                model=_text(parameters.get("model")),
                deployment_id=_text(details.get("id")),
                budget=_cached_budget(parameters, f"model_list {name}", notes) if has_budget else None,
                access_groups=string_list(details.get("access_groups")),
            )
        )
    return found


def _aliases(value: object) -> dict[str, str]:
    """Return alias -> model group, written as a text or as {"model": …}."""
    found = {}
    for alias, target in _mapping(value).items():
        group = _text(target.get("model") if isinstance(target, Mapping) else target)
        if group is not None:
            found[str(alias)] = group
    return found
