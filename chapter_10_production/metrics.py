"""What the server tells about itself, in numbers that a monitor collects every few seconds.

The two times that a reader feels are how long the first token takes, which grows when texts have to
wait, and how long each further one takes, which grows with the number of texts written at once.
Queue and cache tell how near the server is to its limits. Prometheus reads all of it at /metrics.
Source: prometheus.io/docs/practices/instrumentation.
"""

from __future__ import annotations

from chapter_10_production.engine_thread import EngineThread, Observer

INSTALL = "pip install starlette uvicorn prometheus-client (the extra 'serve')"

try:
    import prometheus_client as prometheus
except ImportError as error:
    raise ImportError(f"metrics need prometheus-client ({error}): {INSTALL}") from error

CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST
FIRST_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # seconds
NEXT_TOKEN = (0.00025, 0.0005, *FIRST_TOKEN[:-3])


class Metrics(Observer):
    """The observer of an engine's thread, with a registry of its own.

    A "text" is one continuation: a request with n = 3 has three.
    """

    def __init__(self) -> None:
        self.registry = own = prometheus.CollectorRegistry()

        def counter(name: str, about: str, *labels: str) -> prometheus.Counter:
            return prometheus.Counter(name, about, labels, registry=own)

        def histogram(name: str, about: str, buckets: tuple) -> prometheus.Histogram:
            return prometheus.Histogram(name, about, registry=own, buckets=buckets)

        self.responses = counter("http_responses", "Answers to requests, by status.", "status")
        self.taken = counter("texts_submitted", "Texts taken in.")
        self.refused = counter("texts_rejected", "Texts refused, as too many waited.")
        self.ended = counter("texts_finished", "Texts ended, by reason.", "reason")
        self.written = counter("tokens_written", "Tokens written, of all texts.")
        self.first = histogram(
            "time_to_first_token_seconds", "From a text's coming to its first token.", FIRST_TOKEN
        )
        self.between = histogram(
            "time_between_tokens_seconds", "From a text's token to its next.", NEXT_TOKEN
        )

    def watch(self, thread: EngineThread) -> None:
        """Read the gauges off a thread from now on."""

        def gauge(name: str, about: str, attribute: str) -> None:
            found = prometheus.Gauge(name, about, registry=self.registry)
            found.set_function(lambda: getattr(thread, attribute))

        gauge("texts_waiting", "Texts in the queue.", "waiting")
        gauge("texts_running", "Texts being written.", "running")
        gauge("cache_use_ratio", "Share of the cache's pages that texts hold.", "cache_use")
        gauge("engine_alive", "1 while the engine's thread lives.", "alive")

    def submitted(self) -> None:
        self.taken.inc()

    def rejected(self) -> None:
        self.refused.inc()

    def first_token(self, seconds: float) -> None:
        self.first.observe(seconds)

    def tokens(self, count: int, seconds: float | None) -> None:
        self.written.inc(count)
        if seconds is not None:
            # Tokens that came in one step share its time.
            for _ in range(count):
                self.between.observe(seconds / count)

    def finished(self, reason: str) -> None:
        self.ended.labels(reason).inc()

    def responded(self, status: int) -> None:
        """A request was answered."""
        self.responses.labels(str(status)).inc()

    def exposition(self) -> bytes:
        """All of it, in Prometheus's text format."""
        return prometheus.generate_latest(self.registry)
