"""The names of quantities that are no tokens: in `Usage.units`, on lines, in the price book's grammar. Pure.

Guardrail units are told by policy, because each has a price of its own: `guardrail_units/contentPolicyUnits`.
"""

from typing import Final

INPUT_CHARACTERS: Final = "input_characters"
OUTPUT_CHARACTERS: Final = "output_characters"
INPUT_IMAGES: Final = "input_images"
OUTPUT_IMAGES: Final = "output_images"
INPUT_AUDIO_SECONDS: Final = "input_audio_seconds"  # of a transcription, of an embedded recording
INPUT_VIDEO_SECONDS: Final = "input_video_seconds"
OUTPUT_VIDEO_SECONDS: Final = "output_video_seconds"
OUTPUT_AUDIO_SECONDS: Final = "output_audio_seconds"
QUERIES: Final = "queries"  # search units of a rerank, queries of a search or of a vector store
PAGES: Final = "pages"
ANNOTATED_PAGES: Final = "annotated_pages"
CREDITS: Final = "credits"
WEB_SEARCHES: Final = "web_searches"
FILE_SEARCHES: Final = "file_searches"
MAPS_QUERIES: Final = "maps_queries"
CODE_SESSIONS: Final = "code_sessions"
GUARDRAIL_UNITS: Final = "guardrail_units"  # with the policy after a slash
TEXT_MESSAGES: Final = "text_messages"  # typed into a voice session
CITATION_TOKENS: Final = "citation_tokens"
COMPUTER_USE_INPUT_TOKENS: Final = "computer_use_input_tokens"
COMPUTER_USE_OUTPUT_TOKENS: Final = "computer_use_output_tokens"

# Derived from the basis of a call, never in `Usage.units`; names of lines.
OUTPUT_PIXELS: Final = "output_pixels"  # images by their size
CALL_SECONDS: Final = "call_seconds"  # wall clock of a self-hosted model
REQUESTS: Final = "requests"

# One of each, as a line's `unit` says it.
UNIT_OF: Final[dict[str, str]] = {
    INPUT_CHARACTERS: "character",
    OUTPUT_CHARACTERS: "character",
    INPUT_IMAGES: "image",
    OUTPUT_IMAGES: "image",
    OUTPUT_PIXELS: "pixel",
    INPUT_AUDIO_SECONDS: "second",
    INPUT_VIDEO_SECONDS: "second",
    OUTPUT_VIDEO_SECONDS: "second",
    OUTPUT_AUDIO_SECONDS: "second",
    CALL_SECONDS: "second",
    QUERIES: "query",
    PAGES: "page",
    ANNOTATED_PAGES: "page",
    CREDITS: "credit",
    WEB_SEARCHES: "search",
    FILE_SEARCHES: "search",
    MAPS_QUERIES: "query",
    CODE_SESSIONS: "session",
    TEXT_MESSAGES: "message",
    CITATION_TOKENS: "token",
    COMPUTER_USE_INPUT_TOKENS: "token",
    COMPUTER_USE_OUTPUT_TOKENS: "token",
    REQUESTS: "request",
}

# What a prompt or an answer consists of: tokens may measure the same, and are then what is charged.
INPUT_CONTENT: Final = frozenset({INPUT_CHARACTERS, INPUT_IMAGES, INPUT_AUDIO_SECONDS, INPUT_VIDEO_SECONDS, QUERIES})
OUTPUT_CONTENT: Final = frozenset(
    {OUTPUT_CHARACTERS, OUTPUT_IMAGES, OUTPUT_PIXELS, OUTPUT_AUDIO_SECONDS, OUTPUT_VIDEO_SECONDS}
)
DOCUMENTS: Final = frozenset({PAGES, ANNOTATED_PAGES, CREDITS})
CONTENT: Final = INPUT_CONTENT | OUTPUT_CONTENT | DOCUMENTS
# Tools have a price of their own wherever they are used; without one the call cannot be priced.
TOOLS: Final = frozenset({WEB_SEARCHES, FILE_SEARCHES, MAPS_QUERIES, CODE_SESSIONS})


def qualified(unit: str, qualifier: str) -> str:
    """Return the name under which a rate for a size, a resolution, a policy … of a unit is kept."""
    return f"{unit}/{qualifier}"


def unit_of(kind: str) -> str:
    """Return what one of a kind is called, qualified or not; tokens are tokens."""
    return UNIT_OF.get(kind.partition("/")[0], "token")
