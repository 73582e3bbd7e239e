"""Refuses sources that are not, or not wholly, a LiteLLM proxy: their plans would take budgets away. Pure."""

from collections.abc import Iterable
from typing import Final

from service.errors import InvalidInput
from service.imports.plan import SLUG_PREFIX
from service.imports.source_rows import Entities

_FIELD: Final = "--database-url"
# Every version has them.
_ESSENTIAL: Final = ("LiteLLM_BudgetTable", "LiteLLM_VerificationToken", "LiteLLM_TeamTable", "LiteLLM_UserTable")
# What the budgets of tables that not every version has are called here.
_SLUGS: Final = {
    "LiteLLM_OrganizationTable": "organization-",
    "LiteLLM_ProjectTable": "project-",
    "LiteLLM_EndUserTable": "end-user-",
    "LiteLLM_TagTable": "tag-",
    "LiteLLM_ModelAccessGroupBudgetTable": "access-group-",
    "LiteLLM_TeamMembership": "member",
    "LiteLLM_AgentsTable": "agent-",
}


def check_is_litellm(entities: Entities) -> None:
    """Refuse a database without the tables every LiteLLM has. Raises InvalidInput."""
    lacking = [table for table in _ESSENTIAL if f"table {table}" in entities.missing]
    if lacking:
        raise InvalidInput(
            f"This is no database of LiteLLM, or it may not be read: there is no table {', '.join(lacking)}."
            " Check the address, its `schema=`, and the rights of its user.",
            code="not_litellm",
            field=_FIELD,
        )


def check_may_prune(entities: Entities, planned: Iterable[str], orphans: Iterable[str]) -> None:
    """Refuse to archive budgets (slugs) that may be missing for another reason than being gone. Raises InvalidInput."""
    rows = (entities.keys, entities.teams, entities.users, entities.budgets)
    if not any(rows) or not any(True for _ in planned):
        raise _refusal("no budget was found in this database: is it the right one?")
    if entities.unreadable:
        raise _refusal(f"{len(entities.unreadable):,} rows cannot be read: budgets of theirs would be archived.")
    for slug in orphans:
        for table, beginning in _SLUGS.items():
            if slug.startswith(SLUG_PREFIX + beginning) and f"table {table}" in entities.missing:
                raise _refusal(f"{slug} would be archived because there is no table {table}, or it may not be read.")


def _refusal(why: str) -> InvalidInput:
    return InvalidInput(f"Not pruned: {why} Nothing was written.", code="unsafe_prune", field="--prune")
