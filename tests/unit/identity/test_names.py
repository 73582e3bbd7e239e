import pytest

from service.identity.names import clean_name, match_key, name_forms, take_apart
from service.identity.providers import canonical_provider, qualified

KEYS = {
    "claude-opus-4-6": "claude-opus-4-6",
    "vertex_ai/claude-opus-4-6": "claude-opus-4-6",
    "vertex_ai/claude-opus-4-6@default": "claude-opus-4-6",
    "Vertex_AI/Claude-Opus-4-6@Default": "claude-opus-4-6",
    "azure_ai/gpt-5.4-mini-2026-03-17": "gpt-5.4-mini",
    "claude-sonnet-4-5-20250929": "claude-sonnet-4-5",
    "vertex_ai/claude-haiku-4-5@20251001": "claude-haiku-4-5",
    "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0": "claude-sonnet-4-5",
    "bedrock/converse/us.anthropic.claude-haiku-4-5-20251001-v1:0": "claude-haiku-4-5",
    "apac.amazon.nova-pro-v1:0": "nova-pro",
    "global.anthropic.claude-opus-4-6-v1": "claude-opus-4-6",
    "us-gov.openai.gpt-oss-120b-1:0": "gpt-oss-120b",
    "bedrock/us-gov-east-1/amazon.nova-pro-v1:0": "nova-pro",
    "azure/eu/gpt-4o-2024-08-06": "gpt-4o",
    "openai/ft:gpt-4.1-mini-2025-04-14:acme::C7abcd12": "gpt-4.1-mini",
    "groq/openai/gpt-oss-120b": "gpt-oss-120b",
    "fireworks_ai/accounts/fireworks/models/deepseek-r1": "deepseek-r1",
    "azure_ai/model_router/prod-router": "prod-router",
    "vertex_ai/publishers/anthropic/models/claude-opus-4-6@default": "claude-opus-4-6",
    "publishers/google/models/gemini-2.5-pro": "gemini-2.5-pro",
    "bedrock/arn:aws:bedrock:us-east-1:1234:inference-profile/us.anthropic.claude-opus-4-6-v1": "claude-opus-4-6",
    "arn:aws:bedrock:eu-west-1::foundation-model/amazon.nova-pro-v1:0": "nova-pro",
    "model_router/prod-router": "prod-router",
}

WHOLE = [
    "openai-gw/gpt-5.4",  # a public name with a slash, no provider
    "qwen/qwen3-4b",  # a publisher, no provider
    "eu.assistant",  # no vendor behind the region
    "chat/gpt-4",  # a route only behind a provider
    "gpt-4-0613",  # no date of the known forms
    "mistral-large-2512",
    "gpt-4o-2024-13-40",  # no date at all
    "anthropic/",  # nothing behind the prefix
    "@cf/meta/llama-2-7b-chat-fp16",  # no version
    "titan-embed-text-v2",  # v2 is the model
    "claude-v2",
    "-20250101",  # nothing in front of the date
    "arn:aws:bedrock:us-west-2:111122223333:application-inference-profile/abcd",
]


@pytest.mark.parametrize(("name", "key"), KEYS.items())
def test_whatever_stands_around_a_models_own_name_is_not_in_its_key(name: str, key: str) -> None:
    assert match_key(name) == key


@pytest.mark.parametrize("name", WHOLE)
def test_what_no_rule_knows_stays_in_the_name(name: str) -> None:
    assert match_key(name) == name
    assert name_forms(name) == (name,)


def test_different_models_keep_different_keys() -> None:
    names = ["claude-v2:1", "amazon.titan-embed-text-v1", "amazon.titan-embed-text-v2:0", "cohere.embed-v4:0"]
    assert len({match_key(name) for name in names}) == len(names)


def test_a_value_without_prefix_or_date_matches_a_name_with_both() -> None:
    assert set(name_forms("azure_ai/gpt-5.4-mini-2026-03-17")) == {
        "azure_ai/gpt-5.4-mini-2026-03-17",
        "azure_ai/gpt-5.4-mini",
        "gpt-5.4-mini-2026-03-17",
        "gpt-5.4-mini",
    }


def test_a_value_with_prefix_or_date_needs_it_in_the_name() -> None:
    assert "vertex_ai/claude-opus-4-6" not in name_forms("claude-opus-4-6")
    assert "claude-opus-4-6@default" not in name_forms("vertex_ai/claude-opus-4-6")
    assert "gpt-4.1-2025-04-14" not in name_forms("gpt-4.1")


def test_forms_of_a_bedrock_name_keep_or_drop_each_part() -> None:
    forms = name_forms("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0")
    assert forms[0] == "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    assert forms[-1] == "claude-sonnet-4-5"
    assert {
        "us.anthropic.claude-sonnet-4-5",
        "bedrock/anthropic.claude-sonnet-4-5",
        "claude-sonnet-4-5-20250929",
    } < set(forms)


def test_a_fine_tune_is_matched_by_its_own_name_and_by_that_of_its_base() -> None:
    forms = name_forms("openai/ft:gpt-4.1-mini-2025-04-14:acme::C7abcd12")
    assert {"ft:gpt-4.1-mini-2025-04-14:acme::c7abcd12", "ft:gpt-4.1-mini-2025-04-14", "gpt-4.1-mini"} < set(forms)


def test_the_parts_of_a_name_say_what_they_are() -> None:
    parts = take_apart("bedrock/converse/us.anthropic.claude-haiku-4-5-20251001-v1:0")
    assert (parts.provider, parts.route, parts.region, parts.vendor) == ("bedrock", "converse/", "us.", "anthropic.")
    assert (parts.core, parts.date, parts.revision) == ("claude-haiku-4-5", "-20251001", "-v1:0")


@pytest.mark.parametrize(
    ("name", "provider", "full"),
    [
        ("Qwen3-4B", "hosted_vllm", "hosted_vllm/Qwen3-4B"),
        ("Qwen/Qwen3-4B", "hosted_vllm", "hosted_vllm/Qwen/Qwen3-4B"),
        ("hosted_vllm/Qwen/Qwen3-4B", "hosted_vllm", "hosted_vllm/Qwen/Qwen3-4B"),
        ("openai/gpt-oss-120b", "groq", "groq/openai/gpt-oss-120b"),
        ("azure/gpt-4o", "azure_ai", "azure/gpt-4o"),
        ("vertex_ai/gemini-2.5-pro", "gemini", "vertex_ai/gemini-2.5-pro"),
        ("azure/gpt-4", "openai", "azure/gpt-4"),
        ("gpt-4", None, "gpt-4"),
    ],
)
def test_a_missing_provider_is_put_in_front_once(name: str, provider: str | None, full: str) -> None:
    assert qualified(name, provider) == full
    assert qualified(full, provider) == full


def test_subdivisions_of_a_provider_are_one_provider() -> None:
    assert canonical_provider("vertex_ai-anthropic_models") == "vertex_ai"
    assert canonical_provider(" Bedrock_Converse ") == "bedrock"


@pytest.mark.parametrize(
    "name", [" claude-opus-4-6", "claude-opus-4-6 ", "claude-opus-4-6@", "claude-opus-4-6/", "\u200bclaude-opus-4-6 @ "]
)
def test_what_stands_around_a_name_makes_no_other_name(name: str):
    assert clean_name(name) == "claude-opus-4-6"


def test_blanks_and_separators_alone_are_no_name():
    assert clean_name(" /@ ") is None
