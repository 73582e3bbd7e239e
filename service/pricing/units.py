"""The names of quantities that are no tokens: in `Usage.units`, on lines, in the price book's grammar. Pure."""

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
GUARDRAIL_UNITS: Final = "guardrail_units"
CITATION_TOKENS: Final = "citation_tokens"
COMPUTER_USE_INPUT_TOKENS: Final = "computer_use_input_tokens"
COMPUTER_USE_OUTPUT_TOKENS: Final = "computer_use_output_tokens"
