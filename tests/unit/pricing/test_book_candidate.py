"""Files and bodies on their way to become a price book."""

import gzip
import json

import pytest

from service.pricing.book_candidate import read_candidate, unpacked_map
from service.pricing.map_entry import CostMapError
from service.pricing.shipped import shipped_snapshot
from tests.unit.pricing.builders import shipped_book

MAP = b'{"m": {"input_cost_per_token": 1e-6, "odd_cost": 1}, "sample_spec": {}}'


def test_a_candidate_tells_its_version_its_content_and_what_is_not_understood():
    candidate = read_candidate(MAP, origin="a test")
    assert list(candidate.entries) == ["m"]
    assert candidate.report.not_understood_keys == {"odd_cost": 1}
    assert candidate.version == candidate.report.version
    assert candidate.repeated_models == []


def test_a_byte_order_mark_is_no_harm():
    assert read_candidate(b"\xef\xbb\xbf" + MAP, origin="").version == read_candidate(MAP, origin="").version


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b'{"sample_spec": {}}', b"<!doctype html><html>", b"[]", b"null", b'{"error": "rate limited"}'],
)
def test_what_is_no_map_is_refused(text: bytes):
    with pytest.raises(CostMapError, match="not a cost map"):
        read_candidate(text, origin="")


def test_a_hundred_thousand_models_are_taken():
    models = {f"model-{number}": {"input_cost_per_token": number} for number in range(100_000)}
    assert read_candidate(json.dumps(models).encode(), origin="").report.models == 100_000


def test_a_map_is_taken_plain_compressed_and_out_of_a_snapshot():
    assert unpacked_map(MAP, 1000) == MAP
    assert unpacked_map(gzip.compress(MAP), 1000) == MAP
    text = unpacked_map(shipped_snapshot(), 1 << 25)
    assert read_candidate(text, origin="").version == shipped_book().version


def test_a_file_that_unfolds_without_end_is_refused():
    with pytest.raises(CostMapError, match="unfolds to more than 1000 bytes"):
        unpacked_map(gzip.compress(bytes(10_000_000)), 1000)


@pytest.mark.parametrize("damaged", [b"\x1f\x8bno gzip", gzip.compress(MAP, mtime=0)[:-12]], ids=["alien", "cut off"])
def test_a_damaged_file_is_refused(damaged: bytes):
    with pytest.raises(CostMapError, match="not a cost map"):
        unpacked_map(damaged, 1000)
