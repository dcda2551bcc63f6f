"""What `/metrics` counts: requests, the queue, batches, and where inputs exit."""

from collections import Counter as Counts
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from halfling.engine import Answer
from halfling.exits.policy import ExitPolicy

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.25, 0.5, 1, 2.5, 10)
DEFAULT = "default"
"""What stands for the set of languages without one."""

_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 16_384)


class Meter:
    """The numbers of one service."""

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        of_model = ("model",)
        self.requests = Counter("halfling_requests", "Requests by status", ("endpoint", "status"), registry=own)
        self.request_seconds = Histogram(
            "halfling_request_seconds",
            "From the first byte of a request to the last of its answer",
            ("endpoint",),
            buckets=_SECONDS,
            registry=own,
        )
        self.under_way = Gauge("halfling_requests_under_way", "Requests that are not answered yet", registry=own)
        self.queue_tokens = Gauge("halfling_queue_tokens", "Tokens that wait to be computed", of_model, registry=own)
        self.queue_seconds = Histogram(
            "halfling_queue_seconds", "Wait of a request for its batch", of_model, buckets=_SECONDS, registry=own
        )
        self.batch_seconds = Histogram(
            "halfling_batch_seconds", "Time to compute a batch", of_model, buckets=_SECONDS, registry=own
        )
        self.batch_tokens = Histogram(
            "halfling_batch_tokens", "Tokens of a batch", of_model, buckets=_TOKENS, registry=own
        )
        self.exits = Counter(
            "halfling_exits",
            "Sequences (tokens, where they exit alone) by the layer after which they exited",
            ("model", "layer"),
            registry=own,
        )
        self.thresholds = Gauge(
            "halfling_exit_threshold",
            "Uncertainty below which an input exits after the layer, by the language of the set",
            ("model", "policy", "layer"),
            registry=own,
        )
        self.deaths = Counter("halfling_worker_deaths", "Workers that died and were replaced", of_model, registry=own)
        of_set = ("model", "policy")
        self.watched_texts = Counter(
            "halfling_watched",
            "Texts that were compared with full depth, by the language of the set",
            of_set,
            registry=own,
        )
        self.disagreement = Counter(
            "halfling_watched_disagreement",
            "Sum of what they differ by, 0..1 each; of labels the number of texts with another",
            of_set,
            registry=own,
        )
        self.disagreement_bound = Gauge(
            "halfling_disagreement_bound",
            "What the true mean does not exceed with 95 % confidence, 0..1, by the latest watched texts",
            of_set,
            registry=own,
        )
        self.disagreement_promised = Gauge(
            "halfling_disagreement_promised", "What calibration promised of it, 0..1", of_set, registry=own
        )
        self.unwatched = Counter(
            "halfling_unwatched", "Texts that were drawn, but there was too much else to do", of_model, registry=own
        )

    def announce(self, model: str, policy: ExitPolicy, sets: Mapping[str, ExitPolicy] | None = None) -> None:
        """Show a model's numbers from the beginning, and where its inputs may exit: by default and by language."""
        self.queue_tokens.labels(model).set(0)
        self.deaths.labels(model)
        for name, each in {DEFAULT: policy, **(sets or {})}.items():
            for layer in each.layers:
                self.exits.labels(model, layer)
            for layer, threshold in zip(each.layers, each.thresholds, strict=False):
                self.thresholds.labels(model, name, layer).set(threshold)

    def watch(self, model: str, sets: Sequence[str | None], promised: Mapping[str | None, float]) -> None:
        """Show the numbers of drift from the beginning: nothing is known yet, so a bound is 1."""
        self.unwatched.labels(model)
        for code in sets:
            name = code or DEFAULT
            self.watched_texts.labels(model, name)
            self.disagreement.labels(model, name)
            self.disagreement_bound.labels(model, name).set(1)
            if code in promised:
                self.disagreement_promised.labels(model, name).set(promised[code])

    def watched(self, model: str, policy: str | None, loss: float) -> None:
        """Count a text that differs by so much from its answer at full depth."""
        self.watched_texts.labels(model, policy or DEFAULT).inc()
        self.disagreement.labels(model, policy or DEFAULT).inc(loss)

    def computed(self, model: str, seconds: float, num_tokens: int, answers: Sequence[Answer]) -> None:
        """Count a batch."""
        self.batch_seconds.labels(model).observe(seconds)
        self.batch_tokens.labels(model).observe(num_tokens)
        layers = Counts(layer for one in answers for layer in (one.token_layers or (one.exit_layer,)))
        for layer, times in layers.items():
            self.exits.labels(model, layer).inc(times)

    def text(self) -> bytes:
        """Return all numbers in Prometheus's text form."""
        return generate_latest(self.registry)
