"""Which provider's price list may bill a call of which provider. Pure."""

from functools import lru_cache
from typing import Final

# The map splits some vendors' lists by API or by the maker of the model; to the bill they are one vendor.
_VENDOR_OF: Final[dict[str, str]] = {
    "azure_ai": "azure",
    "azure_text": "azure",
    "bedrock_converse": "bedrock",
    "bedrock_mantle": "bedrock",
    "cohere_chat": "cohere",
    "ollama_chat": "ollama",
    "sagemaker_chat": "sagemaker",
    "text-completion-codestral": "codestral",
    "text-completion-inception": "inception",
    "text-completion-openai": "openai",
    "vertex_ai_beta": "vertex_ai",
    "watsonx_text": "watsonx",
}

# Resale at list price: Azure bills OpenAI's models by the same rates where it has no entry of its own.
_ALSO_BILLS: Final[dict[str, frozenset[str]]] = {"azure": frozenset({"openai"})}

# Who charges cached tokens at half the input rate where its list names no other (batches are at half already).
CACHE_READ_AT_HALF: Final = frozenset({"fireworks_ai"})


def vendor_of(provider: str) -> str:
    """Return who sends the bill: `vertex_ai-anthropic_models` and `vertex_ai` are one vendor."""
    head = provider.partition("-")[0]
    return head if head in {"vertex_ai", "fireworks_ai"} else _VENDOR_OF.get(provider, provider)


def is_google(price_provider: str) -> bool:
    """Tell whether the entry is of Google's own models: Claude and others on Vertex AI are billed by their rules."""
    return price_provider in {"gemini", "vertex_ai", "vertex_ai-language-models"}


@lru_cache(maxsize=4096)
def may_bill_for(provider: str | None, price_provider: str) -> bool:
    """Tell whether an entry of `price_provider` is a price of a call whose provider is `provider` (None = unknown)."""
    if provider is None or not price_provider:
        return True
    vendor, price_vendor = vendor_of(provider.lower()), vendor_of(price_provider)
    return vendor == price_vendor or price_vendor in _ALSO_BILLS.get(vendor, frozenset())
