from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec
import pytest

from service.access.tokens import Caller, TokenTerms, check_grant, checked_terms, new_token_text, token_digest
from service.errors import Forbidden, InvalidInput
from service.kit.ids import new_id

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def terms(**changed: Any) -> TokenTerms:
    return TokenTerms(**{"name": "gateway", "roles": ("ingest",)} | changed)


def a_caller(**changed: Any) -> Caller:
    members = {"tenant_id": "t", "token_id": new_id(), "name": "admin", "roles": frozenset({"admin", "ingest", "read"})}
    return Caller(**members | changed)


def test_a_token_is_a_prefix_and_256_bits() -> None:
    text = new_token_text()
    assert text.startswith("tg_")
    assert len(text) == len("tg_") + 43
    assert text != new_token_text()


def test_a_token_is_known_by_its_sha256() -> None:
    assert token_digest("tg_x") == token_digest(b"tg_x") == sha256(b"tg_x").hexdigest()


def test_roles_and_headers_get_one_form() -> None:
    checked = checked_terms(
        terms(roles=("read", "ingest", "read"), trusted_headers=("X-Tallygate-User", "x-tallygate-user")), now=NOW
    )
    assert checked.roles == ("ingest", "read")
    assert checked.trusted_headers == ("x-tallygate-user",)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "n" * 201}, "name"),
        ({"roles": ()}, "roles"),
        ({"roles": ("admin", "read"), "scope": {"team": ["core"]}}, "scope"),
        ({"scope": {"planet": ["mars"]}}, "scope"),
        ({"scope": {"team": []}}, "scope.team"),
        ({"scope": {"team": ["core", ""]}}, "scope.team[1]"),
        ({"scope": {"team": ["core"] * 1001}}, "scope"),
        ({"pinned": {"served_model": "gpt"}}, "pinned"),
        ({"pinned": {"team": ""}}, "pinned.team"),
        ({"pinned": {"team": "a\x00b"}}, "pinned.team"),
        ({"pinned": {"source": "s" * 257}}, "pinned.source"),
        ({"pinned": {"source": "tallygate"}}, "pinned.source"),
        ({"pinned": {"source": " TallyGate\u200b"}}, "pinned.source"),
        ({"pinned": {"team": " \u200b"}}, "pinned.team"),
        ({"pinned": {"api_key": "sk-1234"}}, "pinned.api_key"),
        ({"pinned": {"api_key": " TG_1234"}}, "pinned.api_key"),
        ({"trusted_headers": ("x-tallygate-team", "x-forwarded-for")}, "trusted_headers[1]"),
        ({"expires_at": NOW}, "expires_at"),
    ],
)
def test_what_a_token_cannot_be_is_refused_with_its_field(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_terms(terms(**changed), now=NOW)
    assert refused.value.field == field


def test_a_refused_plain_key_is_not_repeated() -> None:
    with pytest.raises(InvalidInput) as refused:
        checked_terms(terms(scope={"api_key": ["sk-abcdef0123456789"]}), now=NOW)
    assert "sk-abc" not in refused.value.detail


@pytest.mark.parametrize(
    ("creator", "changed", "field"),
    [
        ({"roles": frozenset({"ingest", "read"})}, {"roles": ("ingest", "check")}, "roles"),
        ({}, {"is_operator": True}, "is_operator"),
        ({"pinned": {"team": "core"}}, {}, "pinned.team"),
        ({"pinned": {"team": "core"}}, {"pinned": {"team": "other"}}, "pinned.team"),
        ({"source": "eu"}, {}, "pinned.source"),
        ({"expires_at": NOW}, {}, "expires_at"),
        ({"expires_at": NOW}, {"expires_at": NOW + timedelta(seconds=1)}, "expires_at"),
    ],
)
def test_nobody_gives_away_what_they_lack(creator: dict[str, Any], changed: dict[str, Any], field: str) -> None:
    with pytest.raises(Forbidden) as refused:
        check_grant(terms(**changed), a_caller(**creator))
    assert refused.value.field == field


def test_an_admin_gives_every_role_of_the_tenant() -> None:
    check_grant(terms(roles=("ingest", "check", "read", "admin")), a_caller(roles=frozenset({"admin"})))


def test_pins_and_scopes_are_cleaned_like_the_values_of_calls() -> None:
    checked = checked_terms(terms(pinned={"team": " core ", "api_key": "A" * 64}, scope={"user": ["mia "]}), now=NOW)
    assert checked.pinned == {"team": "core", "api_key": "a" * 64}
    assert checked.scope == {"user": ["mia"]}


def test_a_token_with_the_same_bounds_as_its_creator_is_granted() -> None:
    creator = a_caller(pinned={"team": "core"}, source="eu", expires_at=NOW)
    check_grant(terms(pinned={"team": "core", "source": "eu"}, expires_at=NOW), creator)


def test_a_caller_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        a_caller().tenant_id = "other"  # type: ignore[misc]
    assert msgspec.structs.replace(a_caller(), name="x").name == "x"
