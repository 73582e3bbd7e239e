import gzip
import zlib

import pytest

from service.errors import BodyTooLarge, MalformedBody
from service.kit.body import BodyCollector

MIB = 1 << 20


def collect(*chunks: bytes, limit: int = 8 * MIB, is_gzip: bool = False) -> bytes:
    collector = BodyCollector(limit, is_gzip=is_gzip)
    for chunk in chunks:
        for _ in collector.add(chunk):
            pass
    return bytes(collector.content())


def test_chunks_of_a_plain_body_are_joined():
    assert collect(b'{"a"', b":", b"1}") == b'{"a":1}'


def test_a_gzip_body_is_inflated_however_it_is_cut():
    body = b"0123456789" * 300_000
    packed = gzip.compress(body)
    for size in (1, 7, 1024, len(packed)):
        chunks = [packed[start : start + size] for start in range(0, len(packed), size)]
        assert collect(*chunks, is_gzip=True) == body


def test_gzip_members_may_follow_each_other_and_be_padded():
    packed = gzip.compress(b"one,") + gzip.compress(b"two") + b"\0" * 40
    assert collect(packed, is_gzip=True) == b"one,two"


def test_the_last_inflated_bytes_are_not_lost_when_a_step_ends_exactly_there():
    body = b"\0" * (3 * MIB)
    assert collect(gzip.compress(body), is_gzip=True) == body


def test_a_plain_body_beyond_the_limit_is_refused_when_the_limit_is_passed():
    collector = BodyCollector(10)
    list(collector.add(b"0123456789"))
    with pytest.raises(BodyTooLarge):
        list(collector.add(b"x"))


def test_a_gzip_bomb_is_refused_before_it_has_unfolded():
    bomb = gzip.compress(b"\0" * (64 * MIB))
    collector = BodyCollector(4 * MIB, is_gzip=True)
    steps = collector.add(bomb)
    unfolded = [next(steps) for _ in range(4)]
    with pytest.raises(BodyTooLarge):
        next(steps)
    assert max(unfolded) <= 4 * MIB


@pytest.mark.parametrize(
    "packed", [b"not gzip at all", zlib.compress(b"zlib, not gzip"), b"\x1f\x8b\x08\x00garbage...."]
)
def test_what_is_announced_as_gzip_and_is_not_is_malformed(packed: bytes):
    with pytest.raises(MalformedBody):
        collect(packed, is_gzip=True)


def test_a_gzip_body_that_breaks_off_is_malformed():
    with pytest.raises(MalformedBody):
        collect(gzip.compress(b"x" * 1000)[:-9], is_gzip=True)


def test_nothing_sent_is_nothing_collected():
    assert collect() == b""
    assert collect(is_gzip=True) == b""
