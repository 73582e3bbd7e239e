"""Who may bill for whom: lists of one vendor under several names, resale at list price, and nobody else."""

import pytest

from service.pricing.providers import is_google, may_bill_for, vendor_of


@pytest.mark.parametrize(
    ("name", "vendor"),
    [
        ("azure_ai", "azure"),
        ("azure_text", "azure"),
        ("bedrock_converse", "bedrock"),
        ("bedrock_mantle", "bedrock"),
        ("cohere_chat", "cohere"),
        ("ollama_chat", "ollama"),
        ("sagemaker_chat", "sagemaker"),
        ("text-completion-codestral", "codestral"),
        ("text-completion-inception", "inception"),
        ("text-completion-openai", "openai"),
        ("vertex_ai_beta", "vertex_ai"),
        ("watsonx_text", "watsonx"),
        ("vertex_ai-anthropic_models", "vertex_ai"),
        ("fireworks_ai-embedding-models", "fireworks_ai"),
        ("amazon-nova", "amazon-nova"),
        ("openai", "openai"),
    ],
)
def test_several_lists_are_one_vendors(name: str, vendor: str):
    assert vendor_of(name) == vendor
    assert may_bill_for(vendor, name)
    assert may_bill_for(name.upper(), vendor)


@pytest.mark.parametrize(
    ("provider", "listed", "may"),
    [
        (None, "openai", True),
        ("openai", "", True),
        ("azure", "openai", True),
        ("azure_ai", "openai", True),
        ("openai", "azure", False),
        ("anthropic", "bedrock", False),
        ("groq", "openai", False),
    ],
)
def test_resale_at_list_price_goes_one_way(provider: str | None, listed: str, may: bool):
    assert may_bill_for(provider, listed) is may


@pytest.mark.parametrize(
    ("listed", "is_it"),
    [
        ("gemini", True),
        ("vertex_ai", True),
        ("vertex_ai-language-models", True),
        ("vertex_ai-anthropic_models", False),
        ("openai", False),
    ],
)
def test_models_of_others_on_vertex_are_not_googles(listed: str, is_it: bool):
    assert is_google(listed) is is_it
