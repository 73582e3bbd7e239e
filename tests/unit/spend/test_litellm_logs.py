from decimal import Decimal

import msgspec
import pytest

from service.spend.litellm_logs import exact_number, shown_model


@pytest.mark.parametrize(
    ("amount", "number"),
    [
        ("0.1", "0.1"),
        ("1.23E-10", "0.000000000123"),
        ("1E+3", "1000"),
        ("-0.00", "0"),
        ("-0.0026205", "-0.0026205"),
        ("0.1234567890123456789012345678901234567", "0.1234567890123456789012345678901234567"),
    ],
)
def test_an_amount_is_a_json_number_of_every_digit(amount: str, number: str) -> None:
    assert msgspec.json.encode([exact_number(Decimal(amount))]).decode() == f"[{number}]"


def test_the_model_is_the_served_one_and_the_router_only_when_nothing_better_is_known() -> None:
    router, requested = "azure_ai/model_router/r1", "smart"
    assert shown_model("azure_ai/gpt-5.4-mini", router, requested) == "azure_ai/gpt-5.4-mini"
    assert shown_model(None, router, requested) == router
    assert shown_model(None, None, requested) == requested
    assert shown_model(None, None, None) == ""
