"""Latency: what is called, how often, in which order, and the statistics; not how fast."""

import numpy as np
import pytest

from jaxprune import pruning
from tests.pruning import toy


class Recorder:
    """Stands in for a classifier, and notes its calls."""

    name, image_size, mean = "recorder", 8, np.zeros(3)

    def __init__(self, calls, label="a"):
        self.calls, self.label = calls, label

    def logits(self, images):
        self.calls.append((self.label, images.shape, images.dtype))
        return images


def test_times_are_those_of_the_calls(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(pruning.latency.time, "perf_counter", lambda: now[0])

    class Slow(Recorder):
        def logits(self, images):
            now[0] += 0.001 * (1 + len(self.calls))
            return super().logits(images)

    assert pruning.latency_ms(Slow([]), repeats=3, warm_up=1).times_ms == pytest.approx((2, 3, 4))


def test_calls_alternate_after_the_warm_up():
    calls = []
    both = {label: Recorder(calls, label) for label in "ab"}
    latencies = pruning.compare_latency(both, batch_size=5, repeats=3, warm_up=2)
    assert "".join(label for label, _, _ in calls) == "aabb" + 3 * "ab"
    assert {call[1:] for call in calls} == {((5, 8, 8, 3), np.dtype("uint8"))}
    assert [len(latency.times_ms) for latency in latencies.values()] == [3, 3]
    assert pruning.latency_ms(Recorder([]), image_size=4, repeats=7).batch_size == 1


def test_the_statistics_are_quartiles_in_milliseconds():
    latency = pruning.Latency((4.0, 1.0, 2.0, 3.0, 100.0), batch_size=8)
    assert latency.quartiles_ms == (2.0, 3.0, 4.0)
    assert latency.median_ms == float(latency) == 3.0
    assert str(latency) == "3.00 ms per batch of 8 (quartiles 2.00 to 4.00)"
    with pytest.raises(ValueError, match="not pairs; measure both by one call of compare_latency"):
        latency.speedup_over(pruning.Latency((1.0,), batch_size=8))


def test_a_networks_forward_pass_is_measured():
    latency = pruning.latency_ms(toy.classifier(), batch_size=2, repeats=3, warm_up=1)
    assert len(latency.times_ms) == 3
    assert 0 < latency.median_ms < 10_000


def test_wrong_requests_are_refused():
    for name in ("batch_size", "repeats", "warm_up"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            pruning.latency_ms(Recorder([]), **{name: 0})
    unsized = Recorder([])
    unsized.image_size = None
    with pytest.raises(ValueError, match="recorder states no image_size; give image_size="):
        pruning.latency_ms(unsized)
    with pytest.raises(ValueError, match="no classifier to measure"):
        pruning.compare_latency({})
