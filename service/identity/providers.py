"""The providers whose name may stand in front of a model's name, and which of them are one house. Pure constants.

Taken from the prefixes and provider names of the model-cost map, and from the gateway's providers without prices.
"""

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PROVIDERS: Final = _words(
    """
    ai21 ai21_chat aihubmix aiml aleph_alpha amazon-nova amazon_nova anthropic anyscale apiserpent assemblyai aws_polly
    azure azure_ai azure_text baseten bedrock bedrock_converse bedrock_mantle bespoke black_forest_labs bytez cerebras
    chatgpt clarifai cloudflare codestral cognition cohere cohere_chat cometapi compactifai coralbricks crusoe
    custom_openai darkbloom dashscope databricks datarobot dataforseo deepgram deepinfra deepseek docker_model_runner
    duckduckgo elevenlabs empower exa_ai fal_ai featherless_ai firecrawl fireworks_ai friendliai galadriel gemini
    gigachat github github_copilot gmi google_pse gradient_ai groq heroku hosted_vllm huggingface hyperbolic inception
    inferenceapis infinity jina_ai lambda_ai langgraph laya lemonade libertai linkup litellm_proxy llamafile llamagate
    lm_studio maritalk meta meta_llama microsoft_365_copilot minimax mistral moonshot morph nace nebius nimble nlp_cloud
    novita nscale nvidia_nim oci ollama ollama_chat oobabooga openai openai_like openinfer openrouter ovhcloud palm
    parallel_ai perplexity petals pinstripes predibase prism publicai qwen_ai_platform qwencloud recraft reducto
    replicate runwayml sagemaker sagemaker_chat sail sambanova sap sarvam scaledown scaleway scx-ai searxng serper
    snowflake soniox stability strands_decider tavily tencent tensormesh text-completion-codestral
    text-completion-inception text-completion-openai tinyfish together_ai topaz triton typesafe v0 vercel_ai_gateway
    vertex_ai vertex_ai_beta vllm volcengine voyage wandb watsonx watsonx_text xai xiaomi_mimo xinference you_com zai
    """
)

# Names of one house: a model that carries the one prefix needs no second one of the other.
_HOUSES: Final = {
    "azure_ai": "azure",
    "azure_text": "azure",
    "bedrock_converse": "bedrock",
    "bedrock_mantle": "bedrock",
    "cohere_chat": "cohere",
    "custom_openai": "openai",
    "gemini": "google",
    "ollama_chat": "ollama",
    "palm": "google",
    "sagemaker_chat": "sagemaker",
    "text-completion-codestral": "codestral",
    "text-completion-openai": "openai",
    "vertex_ai": "google",
    "vertex_ai_beta": "google",
    "vllm": "hosted_vllm",
    "watsonx_text": "watsonx",
}

# At these, `openai/gpt-oss-120b` is a model's own name, not OpenAI's API: the provider is put in front all the same.
RESELLERS: Final = _words(
    """
    aihubmix aiml baseten cloudflare custom_openai databricks deepinfra featherless_ai fireworks_ai friendliai github
    groq hosted_vllm huggingface hyperbolic inferenceapis litellm_proxy lm_studio nebius novita nscale nvidia_nim ollama
    ollama_chat openai_like openrouter replicate together_ai vercel_ai_gateway vertex_ai vllm wandb watsonx xinference
    """
)

# Here the owner of a deployment names it as he likes, so that its name says nothing about the model.
OWNER_NAMED: Final = _words(
    """
    azure azure_ai azure_text custom_openai databricks hosted_vllm huggingface litellm_proxy llamafile lm_studio ollama
    ollama_chat oobabooga openai_like petals predibase sagemaker sagemaker_chat triton vllm xinference
    """
)

_SPLIT_BY_MAKER: Final = ("vertex_ai-", "fireworks_ai-")


def canonical_provider(name: str) -> str:
    """Return a provider as it is compared: lower case, without the map's subdivisions by maker (`vertex_ai-…`)."""
    lower = name.strip().lower()
    for prefix in _SPLIT_BY_MAKER:
        if lower.startswith(prefix):
            return prefix[:-1]
    return "bedrock" if lower == "bedrock_converse" else lower


def house_of(provider: str) -> str:
    """Return the house a provider belongs to, often itself."""
    return _HOUSES.get(provider, provider)


def qualified(name: str, provider: str | None) -> str:
    """Return the name with its provider in front, unless it names that house already."""
    if provider is None:
        return name
    head, slash, _ = name.partition("/")
    head = head.lower()
    if slash and (house_of(head) == house_of(provider) or (head in PROVIDERS and provider not in RESELLERS)):
        return name
    return f"{provider}/{name}"
