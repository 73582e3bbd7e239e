"""When a gateway's figure and our cost part."""

from decimal import Decimal

import pytest

from service.pricing.divergence import DEFAULT_TOLERANCE, Tolerance


@pytest.mark.parametrize(
    ("ours", "gateways", "exceeded"),
    [
        ("1", "1.01", False),
        ("1", "1.0100000000000000000000000000000000000001", True),
        ("1", "0.99", False),
        ("1", "0.9899", True),
        ("0", "0.000001", False),
        ("0", "0.0000011", True),
        ("-1", "-1.01", False),
        ("-1", "-1.02", True),
        ("0.0000001", "0.0000009", False),
    ],
)
def test_a_difference_counts_above_a_share_of_our_cost_and_above_a_least_amount(
    ours: str, gateways: str, exceeded: bool
):
    assert DEFAULT_TOLERANCE.is_exceeded(Decimal(ours), Decimal(gateways)) is exceeded


def test_the_share_is_what_the_operator_says():
    strict = Tolerance(ratio=Decimal(0))
    assert strict.is_exceeded(Decimal(1), Decimal("1.0000011"))
    assert not Tolerance(ratio=Decimal("0.5")).is_exceeded(Decimal(1), Decimal("1.5"))
