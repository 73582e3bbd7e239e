"""What a price per image, per second of film or per search depends on."""

from typing import Any

import pytest

from tests.unit.events.reading import read_call

ONE_IMAGE = {"output_image_count": 1}
FILM = {"duration_seconds": 8}


@pytest.mark.parametrize(
    ("response", "parameters", "size", "quality"),
    [
        ({"size": "1024x1536", "quality": "high"}, {"size": "auto", "quality": "low"}, "1024x1536", "high"),
        ({"size": None, "quality": "auto"}, {"size": "1792x1024", "quality": "hd"}, "1792x1024", "hd"),
        ({"size": ""}, {"size": "2K"}, "2K", None),
        ({"size": "x" * 41, "quality": ["hd"]}, {"size": {"w": 1}, "quality": 7}, None, None),
        ({"size": "a\nb"}, {}, None, None),
    ],
)
def test_an_image_is_as_large_and_good_as_the_answer_says(
    response: dict[str, Any], parameters: dict[str, Any], size: str | None, quality: str | None
):
    basis = read_call("aimage_generation", ONE_IMAGE, response=response, model_parameters=parameters).basis
    assert (basis.image_size, basis.image_quality) == (size, quality)


@pytest.mark.parametrize(
    ("usage", "response", "parameters", "resolution"),
    [
        ({"video_resolution": "1080P "}, {"size": "720x1280"}, {}, "1080p"),
        ({}, {"size": "720x1280"}, {"resolution": "4k"}, "4k"),
        ({}, {"size": "720x1280"}, {}, "720p"),
        ({}, {"size": "1920x1080"}, {}, "1080p"),
        ({}, {}, {"size": "1024-x-1792"}, "1024p"),
        ({"video_resolution": 720}, {}, {}, "720"),
        ({}, {"size": 5}, {"resolution": None}, None),
    ],
)
def test_a_film_has_the_resolution_price_lists_name(
    usage: dict[str, Any], response: dict[str, Any], parameters: dict[str, Any], resolution: str | None
):
    event = read_call("acreate_video", FILM | usage, response=response, model_parameters=parameters)
    assert event.basis.video_resolution == resolution


@pytest.mark.parametrize(
    ("asked", "results"), [(30, 30), ("30", 30), (None, None), (-1, None), ("many", None), (1e300, None)]
)
def test_how_many_results_a_search_was_asked_for(asked: Any, results: int | None):
    parameters = {"query": "x", "max_results": asked}
    assert read_call("asearch", model_parameters=parameters).basis.max_results == results


def test_details_of_what_was_not_used_are_not_looked_for():
    basis = read_call(
        "acompletion",
        {"prompt_tokens": 1, "completion_tokens": 1},
        model_parameters={"size": "1024x1024", "quality": "hd", "resolution": "4k", "max_results": 5},
        response={"size": "1024x1024", "quality": "hd"},
    ).basis
    assert (basis.image_size, basis.image_quality, basis.video_resolution, basis.max_results) == (None,) * 4
