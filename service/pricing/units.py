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
