from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from service.alerts.alert import Alert, describe, percent


def an_alert(**changed: Any) -> Alert:
    fields = {
        "alert_id": UUID(int=1),
        "tenant_id": "t",
        "budget_id": UUID(int=2),
        "slug": "each-user",
        "name": "each user",
        "subject": '{"user":"ann"}',
        "bucket": datetime(2026, 11, 1, tzinfo=UTC),
        "kind": "threshold",
        "threshold": Decimal("0.8"),
        "is_rolling": False,
        "window_start": datetime(2026, 11, 1, tzinfo=UTC),
        "window_end": datetime(2026, 12, 1, tzinfo=UTC),
        "posted_usd": Decimal("80.123456789"),
        "limit_usd": Decimal("100.00"),
        "raised_at": datetime(2026, 11, 21, tzinfo=UTC),
    }
    return Alert(**fields | changed)


def test_a_threshold_is_told_in_a_sentence():
    assert describe(an_alert()) == (
        "Budget 'each user' (user ann) has reached 80 % of its limit: 80.123457 of 100 USD"
        " in the window from 2026-11-01 00:00 UTC to 2026-12-01 00:00 UTC."
    )


def test_a_lifetime_and_a_shared_counter_need_no_more_words():
    alert = an_alert(subject="{}", window_end=None, threshold=Decimal("0.125"))
    assert describe(alert) == "Budget 'each user' has reached 12.5 % of its limit: 80.123457 of 100 USD."


def test_a_projected_exhaustion_says_when():
    alert = an_alert(
        kind="projected_exhaustion",
        threshold=Decimal(1),
        projected_spend_usd=Decimal("119.9"),
        projected_exhaustion_at=datetime(2026, 11, 25, 9, 30, tzinfo=UTC),
    )
    assert describe(alert) == (
        "Budget 'each user' (user ann) will exhaust its limit of 100 USD on 2026-11-25 09:30 UTC: 80.123457 USD so far,"
        " 119.9 USD by its end in the window from 2026-11-01 00:00 UTC to 2026-12-01 00:00 UTC."
    )


def test_percents_read_well():
    assert [percent(Decimal(text)) for text in ("0.8", "1", "2.5", "0.995")] == [80, 100, 250, 99.5]
