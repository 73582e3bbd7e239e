"""What a call costs that is not, or not only, priced by tokens: seconds, characters, images, pages, queries, tools."""

from decimal import Decimal
from typing import Any

import pytest

from service.pricing.rating_result import Rating
from service.pricing.usage import PricingBasis, Usage
from tests.unit.pricing.builders import SEARCH, a_model, amounts, book_of, lines, notes, rated, reported, used

M = 1_000_000


def cost(entry: dict[str, Any], usage: Usage, basis: PricingBasis | None = None, **options: Any) -> Rating:
    return rated("m", usage, basis, book=book_of({"m": entry}), **options)


@pytest.mark.parametrize(
    ("key", "mode", "unit", "told"),
    [
        ("input_cost_per_character", "audio_speech", "input_characters", "character"),
        ("output_cost_per_character", "chat", "output_characters", "character"),
        ("input_cost_per_second", "audio_transcription", "input_audio_seconds", "second"),
        ("output_cost_per_second", "audio_transcription", "input_audio_seconds", "second"),
        ("input_cost_per_second", "realtime", "input_audio_seconds", "second"),
        ("output_cost_per_second", "audio_speech", "output_audio_seconds", "second"),
        ("output_cost_per_second", "video_generation", "output_video_seconds", "second"),
        ("output_cost_per_video_per_second", "video_generation", "output_video_seconds", "second"),
        ("input_cost_per_audio_per_second", "embedding", "input_audio_seconds", "second"),
        ("input_cost_per_video_per_second", "embedding", "input_video_seconds", "second"),
        ("input_cost_per_image", "embedding", "input_images", "image"),
        ("input_cost_per_image", "image_generation", "output_images", "image"),
        ("output_cost_per_image", "image_edit", "output_images", "image"),
        ("input_cost_per_query", "rerank", "queries", "query"),
        ("input_cost_per_query", "search", "queries", "query"),
        ("ocr_cost_per_page", "ocr", "pages", "page"),
        ("ocr_cost_per_credit", "ocr", "credits", "credit"),
        ("input_cost_per_text_message", "realtime", "text_messages", "message"),
        ("code_interpreter_cost_per_session", "chat", "code_sessions", "session"),
        ("google_maps_grounding_cost_per_query", "chat", "maps_queries", "query"),
        ("citation_cost_per_token", "chat", "citation_tokens", "token"),
    ],
)
def test_every_unit_is_priced_by_its_key(key: str, mode: str, unit: str, told: str):
    rating = cost({key: 0.25, "mode": mode}, used(**{unit: 3}))
    assert lines(rating) == {unit: ("3", told, "0.75")}
    assert (rating.price_state, rating.price_key) == ("priced", "m")


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("file_search_cost_per_1k_calls", "file_searches"),
        ("computer_use_input_cost_per_1k_tokens", "computer_use_input_tokens"),
        ("computer_use_output_cost_per_1k_tokens", "computer_use_output_tokens"),
    ],
)
def test_a_price_per_thousand_is_one_of_a_thousandth(key: str, unit: str):
    assert lines(cost({key: 3}, used(**{unit: 7}))) == {unit: ("7", "token" if "tokens" in unit else "search", "0.021")}


def test_a_unit_that_is_no_whole_number_is_charged_exactly():
    rating = cost({"input_cost_per_second": 0.00007167, "mode": "audio_transcription"}, used(input_audio_seconds=63.4))
    assert rating.cost_usd == Decimal("0.004543878")


def test_of_two_prices_per_second_of_a_recording_one_is_charged():
    # Lists state the same price twice for transcriptions.
    entry = {"input_cost_per_second": 0.0001, "output_cost_per_second": 0.0001, "mode": "audio_transcription"}
    assert cost(entry, used(input_audio_seconds=60)).cost_usd == Decimal("0.006")
    entry["input_cost_per_second"] = 0.0
    assert cost(entry, used(input_audio_seconds=60)).cost_usd == Decimal("0.006")
    entry["output_cost_per_second"] = 0.0
    rating = cost(entry, used(input_audio_seconds=60))
    assert (rating.price_state, rating.reason) == ("free", "explicit_zero")
    assert lines(rating) == {"input_audio_seconds": ("60", "second", "0")}


def test_tokens_come_before_other_measures_of_the_same():
    entry = {
        "input_cost_per_token": 1e-6,
        "output_cost_per_token": 2e-6,
        "input_cost_per_character": 1,
        "output_cost_per_character": 1,
        "input_cost_per_image": 1,
        "output_cost_per_image": 1,
        "input_cost_per_second": 1,
        "input_cost_per_query": 1,
        "ocr_cost_per_page": 1,
    }
    units = {
        "input_characters": 4,
        "output_characters": 4,
        "input_images": 1,
        "output_images": 1,
        "queries": 1,
        "pages": 1,
    }
    rating = cost(entry, used(M, M, **units), PricingBasis(duration_seconds=Decimal(9)))
    assert amounts(rating) == {"text_input": 1, "text_output": 2}


def test_each_direction_is_priced_by_what_measures_it():
    entry = {"input_cost_per_token": 1e-6, "output_cost_per_image": 0.04, "mode": "image_generation"}
    assert amounts(cost(entry, used(M, 999, output_images=2))) == {"text_input": 1, "output_images": Decimal("0.08")}
    other = {"output_cost_per_token": 1e-6, "input_cost_per_video_per_second": 0.5, "mode": "chat"}
    assert amounts(cost(other, used(999, M, input_video_seconds=2))) == {"text_output": 1, "input_video_seconds": 1}


def test_what_a_call_makes_must_be_counted():
    video = {"output_cost_per_second": 0.1, "input_cost_per_image": 0.04, "mode": "video_generation"}
    assert cost(video, used(input_images=1)).reason == "unmeasured:output_video_seconds"
    assert amounts(cost(video, used(output_video_seconds=8))) == {"output_video_seconds": Decimal("0.8")}
    both = cost(video, used(output_video_seconds=8, input_images=1))
    assert both.cost_usd == Decimal("0.84")


def test_what_nobody_counted_takes_the_gateways_figure():
    entry = {"input_cost_per_query": 0.002, "mode": "rerank", "input_cost_per_token": 0.0}
    rating = cost(entry, used(1000), cost=reported("0.004"))
    assert (rating.price_state, rating.reason, rating.cost_usd) == ("reported", "unmeasured:queries", Decimal("0.004"))


def test_a_unit_without_a_rate_prices_nothing():
    entry = {"input_cost_per_token": 1e-6}
    assert cost(entry, used(output_images=1)).reason == "no_rate:output_images"
    assert cost(entry, used(output_images=1, queries=2)).reason == "no_rate:output_images"
    assert cost({"mode": "chat"}, used(output_images=1)).reason == "no_rates"


def test_content_without_a_rate_is_no_hindrance_beside_what_has_one():
    entry = {"input_cost_per_second": 0.1, "mode": "audio_transcription"}
    rating = cost(entry, used(input_audio_seconds=2, output_characters=50, computer_use_input_tokens=4))
    assert amounts(rating) == {"input_audio_seconds": Decimal("0.2")}
    citations = cost({"input_cost_per_token": 1e-6}, used(M, citation_tokens=500))
    assert amounts(citations) == {"text_input": 1}


def test_an_image_is_priced_by_its_size():
    entry = {
        "output_cost_per_image": 0.1,
        "output_cost_per_image_512": 0.05,
        "output_cost_per_image_0.5K": 0.06,
        "output_cost_per_image_2K": 0.2,
        "output_cost_per_image_4K": 0.4,
        "mode": "image_generation",
    }

    def price(size: str | None) -> tuple[Decimal, str | None]:
        rating = cost(entry, used(output_images=1), PricingBasis(image_size=size))
        assert [line.name for line in rating.components] == ["output_images"]
        return rating.cost_usd, notes(rating)["output_images"]

    assert price(None) == (Decimal("0.1"), None)
    assert price("512x512") == (Decimal("0.05"), "512")
    assert price("0.5K") == (Decimal("0.06"), "0.5k")
    assert price("2048x1024") == (Decimal("0.2"), "2k")
    assert price("4k") == (Decimal("0.4"), "4k")
    assert price("1000x700") == (Decimal("0.1"), "no rate for 1000: general rate")


def test_a_film_is_priced_by_its_resolution():
    entry = {
        "output_cost_per_second": 0.1,
        "output_cost_per_second_720p": 0.2,
        "output_cost_per_second_2k": 0.3,
        "output_cost_per_second_4k": 0.4,
        "mode": "video_generation",
    }

    def price(resolution: str | None) -> Decimal:
        return cost(entry, used(output_video_seconds=10), PricingBasis(video_resolution=resolution)).cost_usd

    assert [price(text) for text in (None, "720p", "1280x720", "720x1280", "1440x2560", "3840x2160", "4K", "480p")] == [
        Decimal(text) for text in ("1", "2", "2", "2", "3", "4", "4", "1")
    ]
    rating = cost(entry, used(output_video_seconds=1), PricingBasis(video_resolution="480p"))
    assert notes(rating) == {"output_video_seconds": "no rate for 480p: general rate"}
    plain = cost(
        {"output_cost_per_second": 0.1, "mode": "video_generation"},
        used(output_video_seconds=1),
        PricingBasis(video_resolution="480p"),
    )
    assert notes(plain) == {"output_video_seconds": None}


def test_a_general_rate_that_stands_in_keeps_its_own_note():
    entry = {"output_cost_per_second": 0.1, "output_cost_per_second_720p": 0.2, "mode": "video_generation"}
    book = book_of({"m": entry})
    basis = PricingBasis(video_resolution="480p")
    rating = rated(a_model("m", rule="alias"), used(output_video_seconds=1), basis, book=book)
    assert notes(rating) == {"output_video_seconds": "no rate for 480p: general rate; price found by alias"}


def test_pixels_are_counted_from_the_size():
    entry = {"input_cost_per_pixel": 1e-8, "output_cost_per_pixel": 0.0, "mode": "image_generation"}

    def pixels(size: str | None) -> dict[str, tuple[str, str, str]]:
        return lines(cost(entry, used(output_images=2), PricingBasis(image_size=size)))

    assert pixels("100x50") == {"output_pixels": ("10000", "pixel", "0.0001")}
    assert pixels(None) == {"output_pixels": ("2097152", "pixel", "0.02097152")}


def test_a_price_per_pixel_comes_before_one_per_image_only_where_the_size_is_known():
    entry = {"output_cost_per_pixel": 1e-8, "output_cost_per_image": 0.025, "mode": "image_generation"}
    assert amounts(cost(entry, used(output_images=1))) == {"output_images": Decimal("0.025")}
    sized = cost(entry, used(output_images=1), PricingBasis(image_size="1024x1536"))
    assert amounts(sized) == {"output_pixels": Decimal("0.01572864")}
    by_name = cost(entry, used(output_images=1), PricingBasis(image_size="2K"))
    assert amounts(by_name) == {"output_images": Decimal("0.025")}
    # An image price beside a price of *input* pixels is what the provider's list says.
    listed = {"input_cost_per_pixel": 1e-8, "input_cost_per_image": 0.25, "mode": "image_generation"}
    assert amounts(cost(listed, used(output_images=1), PricingBasis(image_size="9x9"))) == {
        "output_images": Decimal("0.25")
    }


def test_whole_megapixels_are_exact_multiples():
    entry = {"output_cost_per_pixel": 1e-8, "mode": "image_generation", "litellm_provider": "fal_ai"}
    for size, megapixels in (("1024x1024", 1), ("1024x1025", 2), ("10x10", 1)):
        rating = cost(entry, used(output_images=1), PricingBasis(image_size=size))
        assert rating.components[0].quantity == megapixels * 1024 * 1024


def test_an_image_generators_input_price_is_that_of_the_image_it_makes():
    entry = {"input_cost_per_image": 0.05, "output_cost_per_image": 0.05, "mode": "image_generation"}
    assert amounts(cost(entry, used(input_images=3, output_images=1))) == {"output_images": Decimal("0.05")}
    tokens = {"input_cost_per_image": 0.001, "input_cost_per_token": 1e-6, "output_cost_per_image": 0.1}
    rating = cost(tokens | {"mode": "image_generation"}, used(0, 0, input_images=2, output_images=1))
    assert amounts(rating) == {"input_images": Decimal("0.002"), "output_images": Decimal("0.1")}


@pytest.mark.parametrize(("images", "charged"), [(1, None), (2, None), (3, 1), (5, 3)])
def test_the_first_images_of_a_prompt_may_be_free(images: int, charged: int | None):
    entry = {
        "output_cost_per_second": 0.1,
        "input_cost_per_image": 0.04,
        "provider_specific_entry": {"minimax_free_input_images": 2},
        "mode": "video_generation",
    }
    rating = cost(entry, used(output_video_seconds=1, input_images=images))
    assert lines(rating).get("input_images", (None,))[0] == (None if charged is None else str(charged))


def test_the_wall_clock_prices_what_tokens_do_not():
    entry = {"input_cost_per_second": 0.01, "cost_per_second": 0.5, "output_cost_per_second": 0.02, "mode": "chat"}
    clock = PricingBasis(duration_seconds=Decimal("2.5"))
    assert lines(cost(entry, used(10, 10), clock)) == {"call_seconds": ("2.5", "second", "0.075")}
    assert lines(cost({"cost_per_second": 0.5}, used(10, 10), clock)) == {"call_seconds": ("2.5", "second", "1.25")}
    assert cost(entry, used(10, 10)).reason == "unmeasured:call_seconds"
    assert cost(entry, used(10, 10), PricingBasis(duration_seconds=Decimal(0))).reason == "unmeasured:call_seconds"
    zero = cost({"input_cost_per_second": 0.0, "mode": "chat"}, used(10, 10))
    assert (zero.price_state, zero.reason) == ("free", "explicit_zero")


def test_a_request_may_have_a_price_of_its_own():
    entry = {"input_cost_per_request": 0.005, "input_cost_per_token": 0.0, "output_cost_per_token": 1e-6}
    assert amounts(cost(entry, used(10, M))) == {"text_input": 0, "text_output": 1, "requests": Decimal("0.005")}
    assert lines(cost({"input_cost_per_request": 0.005}, used(10, 10))) == {"requests": ("1", "request", "0.005")}


def test_a_voice_session_is_charged_for_its_seconds_and_its_messages():
    entry = {"input_cost_per_second": 0.001, "input_cost_per_text_message": 0.004, "mode": "realtime"}
    rating = cost(entry, used(input_audio_seconds=60, text_messages=2))
    assert amounts(rating) == {"input_audio_seconds": Decimal("0.06"), "text_messages": Decimal("0.008")}


def test_annotated_pages_without_a_rate_cost_as_much_again_as_a_page():
    rating = cost({"ocr_cost_per_page": 0.5, "mode": "ocr"}, used(pages=3, annotated_pages=2))
    assert amounts(rating) == {"pages": Decimal("1.5"), "annotated_pages": 1}
    assert notes(rating)["annotated_pages"] == "no annotated_pages rate: pages rate"
    own = cost(
        {"ocr_cost_per_page": 0.5, "annotation_cost_per_page": 1, "mode": "ocr"}, used(pages=3, annotated_pages=2)
    )
    assert amounts(own) == {"pages": Decimal("1.5"), "annotated_pages": 2}
    assert cost({"ocr_cost_per_page": 1, "mode": "ocr"}, used(annotated_pages=2)).reason == "unmeasured:pages"
    told = rated(
        a_model("m", rule="alias"), used(pages=1, annotated_pages=1), book=book_of({"m": {"ocr_cost_per_page": 1}})
    )
    assert notes(told)["annotated_pages"] == "no annotated_pages rate: pages rate; price found by alias"


def test_an_embedding_is_charged_for_its_text_and_for_what_else_it_embeds():
    entry = {
        "input_cost_per_token": 1e-6,
        "input_cost_per_image": 0.1,
        "input_cost_per_audio_per_second": 0.2,
        "input_cost_per_video_per_second": 0.3,
        "input_cost_per_query": 5,
        "mode": "embedding",
    }
    units = {"input_images": 1, "input_audio_seconds": 1, "input_video_seconds": 1, "queries": 1}
    assert amounts(cost(entry, used(M, **units))) == {
        "text_input": 1,
        "input_images": Decimal("0.1"),
        "input_audio_seconds": Decimal("0.2"),
        "input_video_seconds": Decimal("0.3"),
    }
    parts = {"image_input_tokens": 10, "audio_input_tokens": 10, "video_input_tokens": 10}
    by_tokens = cost(entry, used(M, parts=parts, **units))
    assert by_tokens.cost_usd == 1
    assert set(amounts(by_tokens)) == {"text_input", "image_input", "audio_input", "video_input"}
    assert amounts(cost(entry, used(**units)))["queries"] == 5


def test_characters_of_an_embedding_come_before_its_tokens():
    entry = {"input_cost_per_token": 1e-6, "input_cost_per_character": 1e-3, "mode": "embedding"}
    usage = used(M, parts={"image_input_tokens": M // 2}, input_characters=1000)
    assert amounts(cost(entry, usage)) == {"image_input": Decimal("0.5"), "input_characters": 1}
    del entry["input_cost_per_character"]
    assert amounts(cost(entry, used(M, input_characters=1000))) == {"text_input": 1}


def test_long_prompts_have_rates_of_their_own_in_every_unit():
    entry = {
        "input_cost_per_character": 1,
        "input_cost_per_character_above_128k_tokens": 2,
        "output_cost_per_character_above_128k_tokens": 3,
        "output_cost_per_character": 1,
    }
    units = {"input_characters": 1, "output_characters": 1}
    assert cost(entry, used(128_000, **units)).cost_usd == 2
    assert cost(entry, used(128_001, **units)).cost_usd == 5


def test_a_rate_of_long_prompts_alone_is_none_of_short_ones():
    entry = {"input_cost_per_token": 0, "output_cost_per_character_above_128k_tokens": 3}
    assert cost(entry, used(128_000, output_characters=1)).reason == "unmeasured:output_characters"
    assert amounts(cost(entry, used(128_001, output_characters=1))) == {"output_characters": 3}


def test_tokens_without_a_rate_are_not_left_out_beside_a_tool():
    entry = {"input_cost_per_token": 1e-6, "google_maps_grounding_cost_per_query": 1}
    rating = cost(entry, used(M, M, maps_queries=1))
    assert (rating.price_state, rating.reason) == ("unpriced", "no_rate:text_output")


def test_a_batch_halves_content_and_not_tools():
    entry = {
        "ocr_cost_per_page": 1,
        "ocr_cost_per_page_batches": 0.4,
        "annotation_cost_per_page": 2,
        "search_context_cost_per_query": SEARCH,
        "input_cost_per_request": 0.5,
    }
    rating = cost(entry, used(pages=1, annotated_pages=1, web_searches=1), PricingBasis(is_batch=True))
    assert amounts(rating) == {
        "pages": Decimal("0.4"),
        "annotated_pages": 1,
        "web_searches": Decimal("0.02"),
        "requests": Decimal("0.5"),
    }
    assert notes(rating)["annotated_pages"] == "no batch rate: half the standard rate"
    assert notes(rating)["requests"] is None


def test_a_multiplier_is_of_tokens_alone():
    entry = {
        "input_cost_per_token": 1e-6,
        "search_context_cost_per_query": SEARCH,
        "regional_processing_uplift_multiplier_eu": 1.1,
    }
    rating = cost(entry, used(M, web_searches=1), PricingBasis(data_residency="eu"))
    assert amounts(rating) == {"text_input": Decimal("1.1"), "web_searches": Decimal("0.02")}


def test_a_tiered_model_has_its_tools_outside_the_table():
    rows = [{"range": [0, 1000], "input_cost_per_token": 1e-6}, {"range": [1000, 9000], "input_cost_per_token": 2e-6}]
    entry = {"tiered_pricing": rows, "search_context_cost_per_query": SEARCH, "input_cost_per_request": 1}
    rating = cost(entry, used(2000, web_searches=1))
    assert amounts(rating) == {"text_input": Decimal("0.004"), "web_searches": Decimal("0.02"), "requests": 1}
