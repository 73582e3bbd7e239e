from service.access.caller_cache import (
    FRESH_SECONDS,
    OUTAGE_SECONDS,
    RENEWAL_SECONDS,
    UNKNOWN_SECONDS,
    CallerCache,
)
from service.access.tokens import Caller
from service.kit.ids import new_id


def a_caller() -> Caller:
    return Caller(tenant_id="t", token_id=new_id(), name="n", roles=frozenset({"check"}))


def keep(cache: CallerCache, digest: str, *, at: float = 0.0, seconds_left: float | None = None) -> None:
    cache.keep(digest, a_caller(), asked_at=at, seconds_left=seconds_left)


def test_every_time_limit_counts_from_the_question_and_none_is_longer_than_promised() -> None:
    cache = CallerCache()
    keep(cache, "a", at=100.0, seconds_left=7.0)
    cached = cache.find("a")
    assert cached is not None
    assert cached.fresh_until - 100 == FRESH_SECONDS <= 5
    assert cached.renewed_from - 100 == RENEWAL_SECONDS < FRESH_SECONDS
    assert cached.usable_until - 100 == OUTAGE_SECONDS <= 900
    assert cached.expires_at == 107.0


def test_the_least_recently_used_caller_makes_room() -> None:
    cache = CallerCache(max_callers=2)
    keep(cache, "a")
    keep(cache, "b")
    cache.find("a")
    keep(cache, "c")
    assert cache.find("b") is None
    assert cache.find("a") is not None
    assert cache.find("c") is not None


def test_unknown_digests_are_remembered_for_a_second_and_in_bounded_number() -> None:
    cache = CallerCache(max_unknown=3)
    for number in range(1000):
        cache.keep_unknown(str(number), asked_at=0.0)
    assert [n for n in range(1000) if cache.is_unknown(str(n), 0.5)] == [997, 998, 999]
    assert not cache.is_unknown("999", UNKNOWN_SECONDS)


def test_guessing_does_not_push_known_callers_out() -> None:
    cache = CallerCache(max_callers=2, max_unknown=2)
    keep(cache, "a")
    for number in range(1000):
        cache.keep_unknown(str(number), asked_at=0.0)
    assert cache.find("a") is not None


def test_a_token_that_turns_out_unknown_is_no_longer_known() -> None:
    cache = CallerCache()
    keep(cache, "a")
    cache.keep_unknown("a", asked_at=1.0)
    assert cache.find("a") is None
    keep(cache, "a", at=1.5)
    assert not cache.is_unknown("a", 1.6)


def test_what_is_forgotten_is_neither_known_nor_unknown() -> None:
    cache = CallerCache()
    keep(cache, "a")
    cache.keep_unknown("b", asked_at=0.0)
    cache.forget("a")
    cache.forget("b")
    cache.forget("never heard of")
    assert cache.find("a") is None
    assert not cache.is_unknown("b", 0.0)


def test_distrust_keeps_callers_for_an_outage_only() -> None:
    cache = CallerCache()
    keep(cache, "a", at=100.0)
    cache.keep_unknown("b", asked_at=100.0)
    cache.distrust()
    cached = cache.find("a")
    assert cached is not None
    assert cached.fresh_until < 100.0 < cached.usable_until
    assert not cache.is_unknown("b", 100.1)
