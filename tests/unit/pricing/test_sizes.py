"""Sizes as requests write them, and the price keys of images by size and quality."""

import pytest

from service.pricing.image_variants import variant_names
from service.pricing.sizes import film_qualifiers, image_qualifiers, parse_frame


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("1024x1536", (1024, 1536)),
        ("1024-x-1536", (1024, 1536)),
        ("1792X1024", (1792, 1024)),
        ("1280*720", (1280, 720)),
        ("1280:720", (1280, 720)),
        ("azure/hd/1024-x-1792/dall-e-3", (1024, 1792)),
        ("16x99999", (16, 99999)),
        ("mixtral-8x7b", None),
        ("16x9", None),
        ("16x100000", None),
        ("100000x16", None),
        ("2K", None),
        ("auto", None),
        ("", None),
    ],
)
def test_a_size_is_two_numbers_of_pixels(text: str, frame: tuple[int, int] | None):
    assert parse_frame(text) == frame


@pytest.mark.parametrize(
    ("size", "names"),
    [
        ("512x512", ("512", "0.5k")),
        ("768x1024", ("1024", "1k")),
        ("2048x2048", ("2048", "2k")),
        ("4096x2160", ("4096", "4k")),
        ("1536x1024", ("1536",)),
        ("2K", ("2k",)),
    ],
)
def test_an_image_is_called_by_its_longer_side(size: str, names: tuple[str, ...]):
    assert image_qualifiers(size) == names


@pytest.mark.parametrize(
    ("resolution", "name"),
    [
        ("1280x720", "720p"),
        ("720x1280", "720p"),
        ("2560x1440", "2k"),
        ("3840x2160", "4k"),
        ("1080P", "1080p"),
        ("4K", "4k"),
    ],
)
def test_a_film_is_called_by_its_lines(resolution: str, name: str):
    assert film_qualifiers(resolution) == (name,)


def test_the_variant_of_a_stated_quality_is_looked_for_in_every_place_of_a_key():
    assert variant_names("azure/gpt-image-1", "1024x1536", "High") == (
        "azure/high/1024-x-1536/gpt-image-1",
        "high/1024-x-1536/azure/gpt-image-1",
        "high/1024-x-1536/gpt-image-1",
    )


@pytest.mark.parametrize("quality", [None, "", "auto", "Standard"])
def test_without_a_quality_the_usual_ones_are_tried(quality: str | None):
    assert variant_names("dall-e-3", None, quality) == (
        "standard/1024-x-1024/dall-e-3",
        "1024-x-1024/dall-e-3",
        "1024-x-1024/50-steps/dall-e-3",
        "max-x-max/50-steps/dall-e-3",
    )


def test_a_size_that_is_none_is_the_usual_one():
    assert variant_names("m", "2K", "low") == ("low/1024-x-1024/m",)


def test_a_variant_has_no_variants():
    assert variant_names("high/1024-x-1024/gpt-image-1", "1024x1024", "low") == ()
