from decimal import Decimal
from typing import Any

import msgspec
import pytest

from service.access.settings import TenantSettings, decode_settings, merge_settings
from service.errors import InvalidInput


def test_a_tenant_that_set_nothing_has_the_defaults() -> None:
    settings = decode_settings({})
    assert settings == TenantSettings()
    assert settings.fallback_input_usd_per_million == Decimal(5)
    assert settings.fallback_output_usd_per_million == Decimal(25)
    assert (settings.deny_status, settings.deny_detail, settings.trust_gateway_custom_prices) == (402, "summary", True)


def test_what_was_set_survives_storing_exactly() -> None:
    document = merge_settings(
        {}, {"fallback_input_usd_per_million": "0.1000000000000000000000001", "deny_status": 429, "deny_detail": "none"}
    )
    settings = decode_settings(msgspec.json.decode(msgspec.json.encode(document)))
    assert settings.fallback_input_usd_per_million == Decimal("0.1000000000000000000000001")
    assert (settings.deny_status, settings.deny_detail) == (429, "none")


def test_null_goes_back_to_the_default_and_the_rest_stays() -> None:
    document = merge_settings({"deny_status": 403, "deny_detail": "full"}, {"deny_status": None})
    assert document == {"deny_detail": "full"}


def test_members_another_version_stored_are_kept_and_passed_over() -> None:
    document = merge_settings({"of_tomorrow": 1}, {"deny_status": 403})
    assert document == {"of_tomorrow": 1, "deny_status": 403}
    assert decode_settings(document).deny_status == 403


def test_an_amount_is_stored_in_plain_notation() -> None:
    assert merge_settings({}, {"fallback_input_usd_per_million": "1E+1"}) == {"fallback_input_usd_per_million": "10"}


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "-1", "1e400", "", "five", "0." + "1" * 41])
def test_a_rate_that_is_no_amount_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        merge_settings({}, {"fallback_output_usd_per_million": text})
    assert refused.value.field == "fallback_output_usd_per_million"


@pytest.mark.parametrize("document", [{"deny_status": 500}, {"deny_detail": "all"}, {"trust_gateway_custom_prices": 1}])
def test_a_document_with_impossible_values_is_not_taken_for_settings(document: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_settings(document)
