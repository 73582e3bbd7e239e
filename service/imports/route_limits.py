"""Limits over labels, models and routes: tags, access groups, sessions of agents, and what the router counts. Pure."""

from collections.abc import Iterable

from service.identity.dimensions import Dimensions
from service.imports.drafting import EACH, Rank
from service.imports.gateway_config import cached_budget
from service.imports.mapping_context import Context, clean, display_name
from service.imports.source_rows import amount_of, json_of


def map_tags(context: Context) -> None:
    """Draft the limits of tags that have a budget."""
    for row in context.entities.tags:
        tag = clean("tag", row.id)
        context.linked("tag", row, {"tag": row.id}, Dimensions(tags=(tag,) if tag else ()), Rank.LABEL)


def map_access_groups(context: Context) -> None:
    """Draft the limits of model access groups: one counter for all models of a group."""
    models: dict[str, set[str]] = {}
    for model in context.entities.models:
        for group in _texts(json_of(model.access_groups)):
            models.setdefault(group, set()).add(model.model_name)
    for deployment in context.config.deployments:
        for group in deployment.access_groups:
            models.setdefault(group, set()).add(deployment.model_name)
    for row in context.entities.access_groups:
        members = sorted(models.get(row.id, ()))
        if not members:
            detail = "No model says that it belongs to it (model_info.access_groups; --config may say so)."
            context.draft.remark("not_taken", f"access group {row.id}", detail)
            continue
        names = sorted({name for member in members for name in (member, *context.aliases.get(member, ()))})
        context.linked("access group", row, {"requested_model": names}, Dimensions(), Rank.UNBOOKABLE)


def map_sessions(context: Context) -> None:
    """Draft what agents may spend in a session; LiteLLM keeps it for an hour from the first use."""
    for row in context.entities.agents:
        if row.rate_limits:
            context.draft.rate_limits(f"agent {row.agent_id}", row.rate_limits)
        if row.max_budget_per_session is not None:
            limit = amount_of(row.max_budget_per_session)
            entry = cached_budget({"max_budget": limit, "budget_duration": "1h"})
            context.draft.add_cached(
                "agent session", f"sessions of agent {row.agent_id}", ("agent", row.agent_id, "sessions"),
                {"agent": row.agent_id, "session": EACH}, entry,
                name=display_name("agent", row.agent_id, row.agent_name, "each session"), is_zero_none=False,
            )  # fmt: skip


def map_router_budgets(context: Context) -> None:
    """Draft what the router counts by itself: per provider, tag and deployment."""
    for provider, budget in context.config.providers.items():
        context.draft.add_cached(
            "provider", f"provider {provider}", ("provider", provider), {"provider": provider}, budget,
            name=f"LiteLLM: provider {provider}", is_zero_none=True,
        )  # fmt: skip
    for tag, budget in context.config.tags.items():
        context.draft.add_cached(
            "tag (router)", f"tag_budget_config {tag}", ("router-tag", tag), {"tag": tag}, budget,
            name=f"LiteLLM: tag {tag} (router)", is_zero_none=True,
        )  # fmt: skip
    for deployment in context.config.deployments:
        if deployment.budget is not None:
            name = deployment.deployment_id or deployment.model or deployment.model_name
            context.draft.add_cached(
                "deployment", f"deployment {name}", ("deployment", name), {"deployment": name}, deployment.budget,
                name=f"LiteLLM: deployment {name}", is_zero_none=True,
            )  # fmt: skip
    for row in context.entities.models:
        if row.max_budget is not None:
            detail = "LiteLLM encrypts the duration of its budget in the database; state the deployment in --config."
            context.draft.remark("not_taken", f"deployment {row.model_id} ({row.model_name})", detail)


def _texts(content: object) -> Iterable[str]:
    return [text for text in content if isinstance(text, str) and text] if isinstance(content, list) else []
