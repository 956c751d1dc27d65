"""What the bus tells Prometheus; names follow OpenTelemetry's messaging conventions.

https://opentelemetry.io/docs/specs/semconv/messaging/messaging-metrics/
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_TOPIC = "messaging_destination_name"
_GROUP = "messaging_consumer_group_name"


class BusMetrics:
    """Counters of one bus.

    Args:
        registry: where they are registered; by default one of their own, which nobody reads.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        registry = CollectorRegistry() if registry is None else registry
        self.sent = Counter(
            "messaging_client_sent_messages", "Messages that the bus took.", [_TOPIC], registry=registry
        )
        self.refused = Counter(
            "messaging_client_refused_messages",
            "Messages that a full stream did not take.",
            [_TOPIC],
            registry=registry,
        )
        self.consumed = Counter(
            "messaging_client_consumed_messages", "Messages read from the bus.", [_TOPIC, _GROUP], registry=registry
        )
        self.redelivered = Counter(
            "messaging_client_redelivered_messages",
            "Messages read again, because an earlier consumer did not acknowledge them.",
            [_TOPIC, _GROUP],
            registry=registry,
        )
        self.handled = Counter("messaging_process_messages", "Messages handled.", [_TOPIC, _GROUP], registry=registry)
        self.failed = Counter(
            "messaging_process_failures",
            "Handler calls that raised.",
            [_TOPIC, _GROUP, "error_type"],
            registry=registry,
        )
        self.dead = Counter(
            "messaging_process_dead_letters", "Messages that a group gave up on.", [_TOPIC, _GROUP], registry=registry
        )
        self.duration = Histogram(
            "messaging_process_duration_seconds", "Time in the handler, a call.", [_TOPIC, _GROUP], registry=registry
        )
        self.lag = Gauge(
            "messaging_consumer_lag_messages",
            "Messages published and not acknowledged, in the partitions that this process handles.",
            [_TOPIC, _GROUP],
            registry=registry,
        )
