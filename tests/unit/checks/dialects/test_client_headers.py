"""Keys and identities in headers that anybody may have written."""

from hashlib import sha256

from service.access.tokens import TRUSTABLE_HEADERS
from service.checks.dialects.client_headers import (
    body_length,
    client_keys,
    model_header,
    own_tokens,
    vouched,
)
from service.identity.dimensions import Dimensions

EVERYTHING = frozenset(TRUSTABLE_HEADERS)


def digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def test_a_key_is_found_in_every_header_gateways_use_and_only_its_digest_is_returned():
    for name in (b"authorization", b"x-api-key", b"api-key", b"x-litellm-api-key", b"x-goog-api-key"):
        assert client_keys([(name, b"Bearer sk-1")]) == (digest("sk-1"),)
        assert client_keys([(name, b"bearer  sk-1 ")]) == (digest("sk-1"),)
    assert client_keys([(b"x-api-key", b"sk-1")]) == (digest("sk-1"),)
    assert client_keys([(b"authorization", b"sk-1")]) == ()
    assert client_keys([(b"authorization", b"Basic c2s6eA==")]) == ()
    assert client_keys([(b"x-api-key", b" "), (b"authorization", b"Bearer ")]) == ()


def test_all_keys_count_each_once_that_of_authorization_first():
    headers = [
        (b"x-api-key", b"sk-2"),
        (b"authorization", b"Bearer sk-1"),
        (b"api-key", b"sk-1"),
        (b"x-api-key", b"sk-3"),
    ]
    assert client_keys(headers) == (digest("sk-1"), digest("sk-2"), digest("sk-3"))


def test_headers_joined_by_commas_are_as_many_keys():
    joined = [(b"authorization", b"Bearer sk-1,Bearer sk-2"), (b"x-api-key", b"sk-3, sk-4,,")]
    assert client_keys(joined) == tuple(map(digest, ("sk-1", "sk-2", "sk-3", "sk-4")))
    assert model_header([(b"x-ai-eg-model", b"a, b")]) == ("a", "b")


def test_a_digest_is_no_key_whoever_learns_one_cannot_pose_as_its_owner():
    assert client_keys([(b"x-api-key", digest("sk-1").encode())]) == (digest(digest("sk-1")),)


def test_tokens_of_this_service_are_nobodys_client_key():
    headers = [(b"authorization", b"Bearer tg_secret"), (b"x-api-key", b"tg_other"), (b"api-key", b"sk-1")]
    assert client_keys(headers) == (digest("sk-1"),)
    assert own_tokens(headers, b"authorization") == [b"tg_secret"]
    assert own_tokens(headers, b"x-api-key") == [b"tg_other"]
    assert own_tokens(headers, b"api-key") == []


def test_headers_that_are_not_trusted_might_as_well_not_be_there():
    headers = [(name.encode(), b"7") for name in TRUSTABLE_HEADERS]
    nothing = vouched(headers, frozenset())
    assert (nothing.dimensions, nothing.model, nothing.input_tokens, nothing.ambiguous) == (Dimensions(), None, 0, ())
    team_only = vouched(headers, frozenset({"x-tallygate-team"}))
    assert team_only.dimensions == Dimensions(team="7")


def test_trusted_headers_tell_who_asks_and_for_what():
    said = vouched(
        [
            (b"x-tallygate-team", b" core "),
            (b"x-tallygate-user", "zoë".encode()),
            (b"x-tallygate-organization", "zoë".encode("latin-1")),
            (b"x-tallygate-end-user", b"e1"),
            (b"x-tallygate-tags", b"a, b,,a, User-Agent: curl"),
            (b"x-tallygate-model", b"gpt-4.1"),
            (b"x-tallygate-input-tokens", b"12"),
            (b"x-tallygate-max-output-tokens", b"34"),
        ],
        EVERYTHING,
    )
    assert said.dimensions == Dimensions(team="core", user="zoë", organization="zoë", end_user="e1", tags=("a", "b"))
    assert (said.model, said.input_tokens, said.max_output_tokens) == ("gpt-4.1", 12, 34)


def test_a_trusted_header_that_came_twice_says_nothing_and_is_named():
    said = vouched([(b"x-tallygate-team", b"core"), (b"x-tallygate-team", b"rich")], EVERYTHING)
    assert said.dimensions.team is None
    assert said.ambiguous == ("x-tallygate-team",)


def test_counts_are_plain_digits_or_nothing():
    for bad in (b"-1", b"1e9", b"0x10", b"", b"1 2", b"9" * 13, "١٢".encode()):
        said = vouched([(b"x-tallygate-input-tokens", bad)], EVERYTHING)
        assert said.input_tokens == 0
        assert body_length([(b"content-length", bad)]) == 0
    assert body_length([(b"content-length", b"10"), (b"x-original-content-length", b"900")]) == 900


def test_the_model_header_of_a_gateway_is_read_as_often_as_it_came():
    assert model_header([(b"x-ai-eg-model", b"a"), (b"x-ai-eg-model", b"b"), (b"x-ai-eg-model", b"")]) == ("a", "b")
