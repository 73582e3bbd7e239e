from datetime import time
from decimal import Decimal
from typing import Any

import pytest
import yaml

from service.imports.gateway_config import gateway_config, merged


def read(text: str, **stored: Any):
    return gateway_config(merged(yaml.load(text, Loader=yaml.BaseLoader), stored))  # noqa: S506


def test_amounts_are_those_of_the_text():
    config = read("litellm_settings: {max_budget: 0.1000000000000000055511151231257827, budget_duration: 30d}")
    assert config.max_budget == Decimal("0.1000000000000000055511151231257827")
    assert config.budget_duration == "30d"


def test_what_the_proxy_stores_itself_comes_before_the_file():
    config = read("litellm_settings: {max_budget: 5, timezone: Europe/Berlin}", litellm_settings={"max_budget": 7.5})
    assert (config.max_budget, config.rules.timezone) == (Decimal("7.5"), "Europe/Berlin")


def test_both_spellings_of_router_limits_are_read():
    config = read("""
router_settings:
  provider_budget_config: {openai: {budget_limit: 1, time_period: 1d}, azure: {max_budget: 2, budget_duration: 7d}}
litellm_settings: {tag_budget_config: {t: {max_budget: 0, budget_duration: 1d}}}
""")
    assert [(b.max_budget, b.budget_duration) for b in config.providers.values()] == [(1, "1d"), (2, "7d")]
    assert config.tags["t"].max_budget == 0


def test_aliases_are_read_in_both_forms():
    config = read("router_settings: {model_group_alias: {a: g, b: {model: h, hidden: true}, c: []}}")
    assert config.aliases == {"a": "g", "b": "h"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("litellm_settings: {timezone: Mars/Base}", "timezone"),
        ("litellm_settings: {timezone: localtime}", "timezone"),
        ("litellm_settings: {budget_reset_time: '25:00'}", "budget_reset_time"),
        ("litellm_settings: {budget_reset_time: noon}", "budget_reset_time"),
        ("litellm_settings: {max_budget: os.environ/MAX}", "max_budget"),
        ("router_settings: {provider_budget_config: {openai: {budget_limit: much}}}", "openai"),
    ],
)
def test_what_is_not_understood_is_told(text: str, told: str):
    config = read(text)
    assert [note for note in config.notes if told in note]
    assert config.rules.timezone == "UTC"
    assert config.max_budget is None


def test_a_time_of_day_is_read():
    assert read("litellm_settings: {budget_reset_time: '12:30'}").rules.time_of_day == time(12, 30)


@pytest.mark.parametrize("document", [None, [], "text", {"litellm_settings": []}, {"model_list": {"a": 1}},
                                      {"model_list": [None, 1, {"litellm_params": []}]}])  # fmt: skip
def test_any_other_document_configures_nothing(document: object):
    config = gateway_config(merged(document, {"router_settings": "broken"}))
    assert config == gateway_config({})
