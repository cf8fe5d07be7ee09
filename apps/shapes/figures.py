"""The service's figures as Prometheus reads them: requests, seconds, tokens.

https://prometheus.io/docs/instrumenting/exposition_formats; names after https://prometheus.io/docs/practices/naming.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Figures:
    """Counters of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "graft_requests", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "graft_request_seconds", "Until the answer was whole.", ("route",), buckets=SECONDS, registry=self.registry
        )
        self.first_token = Histogram(
            "graft_first_token_seconds", "Until a reply began.", ("model",), buckets=SECONDS, registry=self.registry
        )
        self.tokens = Counter("graft_tokens", "Tokens read and generated.", ("model", "kind"), registry=self.registry)

    def as_text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)
