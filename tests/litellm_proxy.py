"""One LiteLLM proxy with budgets of every kind it knows, and what was spent in each."""

from datetime import datetime, timedelta
from pathlib import Path

from psycopg.types.json import Jsonb

from tests.litellm_source import LiteLLMDatabase, naive, next_day, next_month, token_of

CONFIG = """
litellm_settings:
  max_budget: 1000
  budget_duration: 30d
  max_end_user_budget_id: default-customer
  tag_budget_config:
    "cost-center:7": {max_budget: 70, budget_duration: 7d}
    "unlimited": {max_budget: 0, budget_duration: 1d}
router_settings:
  provider_budget_config:
    openai: {budget_limit: 400, time_period: 1d}
  model_group_alias: {cheap: gpt-4.1-mini}
model_list:
  - model_name: gpt-4.1-mini
    litellm_params: {model: openai/gpt-4.1-mini, max_budget: 250.50, budget_duration: 1d}
    model_info: {id: deployment-1, access_groups: [small]}
  - model_name: claude
    litellm_params: {model: anthropic/claude-opus-4-6}
    model_info: {access_groups: [small]}
"""


def fill(database: LiteLLMDatabase) -> None:
    """Write everything. Every sum of LiteLLM's own is what its logs add up to, but where `fill_without_logs` says."""
    now = database.now
    month = naive(next_month(now))
    database.user("litellm-proxy-budget", spend=43.5, max_budget=1000.0, budget_duration="30d")
    database.budget("org-budget", max_budget=500.0, soft_budget=400.0, budget_duration="30d")
    database.insert("OrganizationTable", organization_id="acme", organization_alias="Acme", budget_id="org-budget",
                    models=[], spend=40.5, created_by="t", updated_by="t")  # fmt: skip
    database.team("core", team_alias="Core", organization_id="acme", max_budget=100.0, soft_budget=55.0, spend=40.5,
                  budget_duration="30d", tpm_limit=1000, metadata={"team_member_budget_id": "member-default"},
                  model_max_budget={"claude": {"max_budget": 25, "budget_duration": "30d"}},
                  budget_limits=Jsonb([{"budget_duration": "1d", "max_budget": 60,
                                        "reset_at": next_day(now).isoformat()}]))  # fmt: skip
    database.insert("BudgetWindowSpend", entity_type="team", entity_id="core", window_duration="1d",
                    window_start=naive(next_day(now) - timedelta(days=1)), spend=40.5,
                    updated_at=naive(now))  # fmt: skip
    database.budget("member-default", max_budget=35.0, budget_duration="30d")
    database.budget("member-ben", max_budget=90.0, budget_duration="30d", temp_budget_increase=5.0,
                    temp_budget_expiry=naive(now + timedelta(days=3)))  # fmt: skip
    database.insert("TeamMembership", user_id="ann", team_id="core", spend=30.25)
    database.insert("TeamMembership", user_id="ben", team_id="core", spend=10.25, budget_id="member-ben")
    database.user("ann", user_alias="Ann", max_budget=20.0, spend=33.25, budget_duration="30d",
                  model_max_budget={"gpt-4.1-mini": {"budget_limit": 12.5, "time_period": "1d"}})  # fmt: skip
    database.budget("project-budget", max_budget=80.0, budget_duration="30d")
    database.insert("ProjectTable", project_id="apollo", project_alias="Apollo", team_id="core",
                    budget_id="project-budget", models=[], spend=30.25, created_by="t", updated_by="t")  # fmt: skip
    database.key("prod", user_id="ann", team_id="core", project_id="apollo", max_budget=31.0,
                 spend=30.25, budget_duration="30d", budget_reset_at=month,
                 model_max_budget={"gpt-4.1-mini": {"budget_limit": 30, "time_period": "1d"}},
                 metadata={"temp_budget_increase": 4,
                           "temp_budget_expiry": (now + timedelta(days=2)).isoformat()})  # fmt: skip
    database.key("ben", user_id="ben", team_id="core", spend=10.25)
    database.key("personal", user_id="ann", spend=3.0, max_budget=3.0)
    database.key("stopped", team_id="core", blocked=True)
    database.key("gone", team_id="core", max_budget=9.0, expires=naive(now - timedelta(days=1)))
    _labels(database)
    database.insert("AgentsTable", agent_id="researcher", agent_name="Researcher", agent_card_params={},
                    litellm_params={"max_budget_per_session": 2.5}, created_by="t", updated_by="t")  # fmt: skip
    _logs(database, now)


def _labels(database: LiteLLMDatabase) -> None:
    database.budget("default-customer", max_budget=8.0, budget_duration="30d")
    database.budget("gold", max_budget=50.0, budget_duration="30d")
    database.insert("EndUserTable", user_id="customer-1", spend=3.0, blocked=False)
    database.insert("EndUserTable", user_id="customer-2", spend=20.0, budget_id="gold", blocked=False)
    database.budget("tag-budget", max_budget=45.0, budget_duration="30d")
    database.insert("TagTable", tag_name="batch", models=[], spend=10.25, budget_id="tag-budget")
    database.budget("group-budget", max_budget=200.0, budget_duration="30d")
    database.insert("ModelAccessGroupBudgetTable", access_group_name="small", spend=43.5, budget_id="group-budget")


def _logs(database: LiteLLMDatabase, now: datetime) -> None:
    core = {"team_id": "core", "organization_id": "acme"}
    prod = {"api_key": token_of("prod"), "user": "ann", "metadata": {"user_api_key_project_id": "apollo"}, **core}
    database.log(10.25, **prod, model_id="deployment-1")
    database.log(20.0, **prod, end_user="customer-2", model="claude-opus-4-6", model_group="claude",
                 custom_llm_provider="anthropic")  # fmt: skip
    database.log(10.25, api_key=token_of("ben"), user="ben", request_tags=["batch", "User-Agent: curl/8"], **core)
    database.log(3.0, api_key=token_of("personal"), user="ann", end_user="customer-1", agent_id="researcher",
                 session_id="s-1")  # fmt: skip
    database.log(0.0, api_key=token_of("prod"), user="ann", status="failure", **core)
    database.log(77.0, api_key=token_of("prod"), at=now - timedelta(days=40), **core)


def write_config(folder: Path) -> Path:
    """Write the configuration as a file and return its path."""
    path = folder / "config.yaml"
    path.write_text(CONFIG)
    return path
