"""What this slice counts and measures; no tenant, team or key is ever a label."""

from prometheus_client import Counter, Gauge, Histogram

CHECKS = Counter("tallygate_checks", "Checks by outcome.", ["outcome"])
UNRESOLVED = Counter(
    "tallygate_checks_unresolved", "Calls of gateways let go on or denied though a budget wants a dimension they lack."
)
DEGRADED = Counter(
    "tallygate_checks_degraded", "Checks answered without the counters, by the policy applied.", ["policy"]
)
UNREAD_KEYS = Counter(
    "tallygate_checks_unread_keys", "Checks whose key could not be read in time, by outcome.", ["outcome"]
)
CHECK_SECONDS = Histogram(
    "tallygate_check_seconds",
    "Time to decide a check.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
)
HOLDS = Counter("tallygate_holds", "Holds by what became of them.", ["outcome"])
HOLDS_OPEN = Gauge("tallygate_holds_open", "Holds in all counters at the last sweep.", multiprocess_mode="mostrecent")
HOLDS_LAPSED = Counter("tallygate_holds_lapsed", "Holds dropped from a counter because nothing ended them in time.")
OVERSHOOT = Counter(
    "tallygate_overshoot_usd",
    "Actual cost nothing was held for, in USD: above the hold, or of calls that went a route their check had denied.",
    ["reason"],
)
PUBLISH_SECONDS = Histogram(
    "tallygate_publish_seconds",
    "Time to copy a committed batch to the counters.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5),
)
PUBLISH_FAILURES = Counter("tallygate_publish_failures", "Batches left to the outbox.")
OUTBOX_AGE = Gauge(
    "tallygate_outbox_age_seconds", "Age of the oldest batch not yet published.", multiprocess_mode="mostrecent"
)
SWEPT = Gauge("tallygate_swept_counters", "Counters looked at by the last sweep.", multiprocess_mode="mostrecent")
DRIFT = Gauge(
    "tallygate_drift_usd",
    "Sum of the absolute differences between counters and ledger found by the last sweep.",
    multiprocess_mode="mostrecent",
)
REPAIRS = Counter("tallygate_counter_repairs", "Counters the sweep corrected, by what was wrong.", ["kind"])

HOLDS_PLACED = HOLDS.labels("placed")
HOLDS_VOIDED = HOLDS.labels("voided")
OVERSHOOT_ABOVE_HOLD = OVERSHOOT.labels("above_hold")
OVERSHOOT_ASTRAY = OVERSHOOT.labels("route_not_followed")
CHECKS_ALLOWED = CHECKS.labels("allowed")
