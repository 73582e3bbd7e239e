"""What is counted of alerts and their deliveries."""

from prometheus_client import Counter, Gauge

RAISED = Counter("tallygate_alerts_raised", "Alerts raised, by kind.", ["kind"])
EVALUATION_FAILURES = Counter(
    "tallygate_alert_evaluation_failures", "Evaluations that failed and were left to the outbox or the schedule."
)
ATTEMPTS = Counter(
    "tallygate_webhook_attempts", "Attempts to deliver, by outcome: delivered, again, failed, gone.", ["outcome"]
)
OLDEST_PENDING = Gauge(
    "tallygate_webhook_oldest_pending_seconds",
    "Age of the oldest delivery that waits for its receiver.",
    multiprocess_mode="mostrecent",
)
SCHEDULE_SECONDS = Gauge(
    "tallygate_alert_schedule_seconds", "Time the last pass of the schedule took.", multiprocess_mode="mostrecent"
)
