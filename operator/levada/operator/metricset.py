"""What every metric of the operator goes through: one registry, one list of what there is, and a bound on labels.

A label holds the name of an object only below a Bound: so many sets of values, and everything after them is `other`.
No label ever holds the name of a run, a message, or anything else that grows with the number of runs.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OTHER: Final = "other"
FAST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LONG_S: Final = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)

# A `_created` beside every counter and bucket would double the page, and Prometheus does not read it.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotation


class Spec(NamedTuple):
    """One metric, as the documentation lists it."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


class MetricSet:
    """Makes metrics and remembers what it made. `registry` is what is served."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.specs: list[Spec] = []

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """A count that only grows; `name` ends in `_total`."""
        self.declare(Spec(name, "counter", labels, text))
        return Counter(name, text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """A value that somebody sets."""
        self.declare(Spec(name, "gauge", labels, text))
        return Gauge(name, text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, *labels: str, buckets: Sequence[float] = FAST_S) -> Histogram:
        """A distribution."""
        self.declare(Spec(name, "histogram", labels, text))
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    def declare(self, spec: Spec) -> None:
        """Note a metric whose samples are made when the page is asked for."""
        self.specs.append(spec)


class Bound:
    """At most `limit` sets of label values; whatever comes after them is `other`.

    Who came first stays: a series that changes its meaning would be worse than one that is missing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: set[tuple[str, ...]] = set()

    def __call__(self, *values: str) -> tuple[str, ...]:
        """The values themselves, or `other` for each of them."""
        if values in self._known:
            return values
        if len(self._known) < self._limit:
            self._known.add(values)
            return values
        return (OTHER,) * len(values)


def markdown(specs: Sequence[Spec]) -> str:
    """The table of the documentation."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for spec in sorted(specs):
        labels = ", ".join(f"`{label}`" for label in spec.labels)
        lines.append(f"| `{spec.name}` | {spec.type} | {labels} | {spec.help} |")
    return "\n".join(lines) + "\n"
