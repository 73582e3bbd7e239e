"""Finding the price of a model: by explicit names only, and never another vendor's."""

from decimal import Decimal

import pytest

from service.identity.models import PriceCandidate
from service.pricing.map_entry import CostMapError
from service.pricing.price_book import ROUTER_KEYS, PriceBook
from service.pricing.providers import may_bill_for
from tests.unit.pricing.builders import book_of, shipped_book, snapshot_of

PRICED = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}


def found(book: PriceBook, *candidates: str | tuple[str, str], provider: str | None = None) -> tuple[str, str] | None:
    names = [(each, "") if isinstance(each, str) else each for each in candidates]
    result = book.find_price(tuple(PriceCandidate(name=name, rule=rule) for name, rule in names), provider)
    return None if result is None else (result.price.key, result.rule)


def test_the_first_candidate_that_has_a_price_wins():
    book = book_of({"b": PRICED, "c": PRICED})
    assert found(book, "a", ("b", "region_prefix"), "c") == ("b", "region_prefix")
    assert found(book, "x", "y") is None
    assert found(book) is None


def test_case_is_told_apart_only_if_both_spellings_have_a_price():
    book = book_of({"azure_ai/FLUX": PRICED, "Model": PRICED, "model": PRICED})
    assert found(book, "azure_ai/flux") == ("azure_ai/FLUX", "case")
    assert found(book, ("AZURE_AI/flux", "alias")) == ("azure_ai/FLUX", "alias, case")
    assert found(book, "Model") == ("Model", "")
    assert found(book, "model") == ("model", "")


@pytest.mark.parametrize("key", [*ROUTER_KEYS, "AZURE_AI/Model_Router"])
def test_a_routers_fee_is_nobodys_model_price(key: str):
    assert found(shipped_book(), key) is None


def test_the_routers_fee_is_found_for_any_provider():
    for provider, key in [
        ("azure", "azure/model-router"),
        ("azure_ai", "azure_ai/model_router"),
        (None, "azure_ai/model_router"),
    ]:
        fee = shipped_book().find_router_fee(provider)
        assert fee is not None
        assert fee.key == key
    assert book_of({"m": PRICED}).find_router_fee("azure") is None


def test_a_bare_name_is_not_priced_by_another_vendors_list():
    book = book_of({"gpt-4.1": PRICED | {"litellm_provider": "openai"}, "own": PRICED})
    assert found(book, "gpt-4.1", provider="hosted_vllm") is None
    assert found(book, "gpt-4.1", "own", provider="hosted_vllm") == ("own", "")
    assert found(book, "gpt-4.1", provider="openai") == ("gpt-4.1", "")
    assert found(book, "gpt-4.1", provider="azure") == ("gpt-4.1", "")
    assert found(book, "gpt-4.1") == ("gpt-4.1", "")


def test_a_list_without_prefixes_is_no_guess_under_its_own_vendor():
    book = book_of({"gpt-4.1": PRICED | {"litellm_provider": "openai"}})
    assert found(book, ("gpt-4.1", "provider_prefix"), provider="openai") == ("gpt-4.1", "")
    assert found(book, ("gpt-4.1", "provider_prefix")) == ("gpt-4.1", "provider_prefix")
    assert found(book, ("gpt-4.1", "provider_prefix, snapshot_date"), provider="openai") == (
        "gpt-4.1",
        "provider_prefix, snapshot_date",
    )


@pytest.mark.parametrize("rule", ["alias", "alias, snapshot_date", "base_model"])
def test_a_declared_name_may_be_priced_by_whatever_list_it_is_in(rule: str):
    book = book_of({"gpt-4.1": PRICED | {"litellm_provider": "openai"}})
    assert found(book, ("gpt-4.1", rule), provider="hosted_vllm") == ("gpt-4.1", rule)


@pytest.mark.parametrize(
    ("provider", "price_provider", "may"),
    [
        ("vertex_ai", "vertex_ai-anthropic_models", True),
        ("vertex_ai_beta", "vertex_ai-language-models", True),
        ("bedrock", "bedrock_converse", True),
        ("bedrock_converse", "bedrock", True),
        ("cohere", "cohere_chat", True),
        ("openai", "text-completion-openai", True),
        ("azure_ai", "azure", True),
        ("azure_ai", "openai", True),
        ("OpenAI", "openai", True),
        ("openai", "azure", False),
        ("gemini", "vertex_ai-language-models", False),
        ("groq", "openai", False),
        ("anything", "", True),
        (None, "openai", True),
    ],
)
def test_who_may_bill_by_whose_list(provider: str | None, price_provider: str, may: bool):
    assert may_bill_for(provider, price_provider) is may


def test_the_shipped_book_states_origin_and_licence():
    book = shipped_book()
    assert len(book) > 4000
    assert "litellm 1.106.2" in book.origin
    assert "MIT License" in book.licence
    assert "Copyright (c) 2023 Berri AI" in book.licence


def test_every_entry_of_the_shipped_book_can_be_read():
    book = shipped_book()
    assert all(book.find(key) is not None for key in book._entries)


def test_an_entry_is_compiled_once():
    book = book_of({"m": PRICED})
    assert book.find("m") is book.find("m")
    assert book.find("n") is None


def test_a_price_is_exactly_the_maps():
    price = shipped_book().find("gpt-4.1-nano")
    assert price is not None
    assert price.entry.rates["text_input", 0, ""] == Decimal("0.0000001")


def test_bytes_that_are_no_snapshot_make_no_book():
    with pytest.raises(CostMapError):
        PriceBook.from_snapshot(b"nothing")
    assert PriceBook.from_snapshot(snapshot_of({"m": PRICED})).find("m") is not None
