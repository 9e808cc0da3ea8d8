"""The same numbers and pixels however the work is cut; each thing compiled, generated and transferred once."""

import collections
import threading

import jax
import numpy as np
import pytest
from flax import nnx

from jaxprune import corruptions, data, evaluation, models
from jaxprune.evaluation import _programs, _run, _streams

KEY = jax.random.key(3)
# One that draws per image and one that does not; 301 images divide by nothing.
NAMES, SEVERITIES, NUM_IMAGES = ("gaussian_noise", "contrast"), (2, 5), 301
PROGRAMS = ("corrupt", "classify", "summarize")
BATCHES, DEVICES, MODEL_AXES = (64, 250, 1000), (1, 8), ("loop", "vmap")


class Tiny(nnx.Module):
    """One convolution with BatchNorm and a linear layer: what compiles in a moment, with all that matters here."""

    def __init__(self, seed, width=4):
        rngs = nnx.Rngs(seed)
        self.conv = nnx.Conv(3, width, (3, 3), strides=2, rngs=rngs)
        self.bn = nnx.BatchNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.bn(self.conv(x))).mean(axis=(1, 2)) * 20)


def tiny(seed, **options):
    return models.from_nnx(Tiny(seed, **options), mean=(0.3,) * 3, std=(0.3,) * 3)


@pytest.fixture(scope="module")
def networks():
    return {f"net{seed}": tiny(seed) for seed in (0, 1)}


@pytest.fixture(scope="module")
def test_set():
    return data.load("digits", split="test", limit=NUM_IMAGES)


def evaluate(networks, test_set, **options):
    """Returns the rows, and the pixels of every generated test set as they were shown to the classifiers."""
    shown, corrupt = collections.defaultdict(list), _programs.corrupt

    def recorded(words, images, first_index, severity, *, name, **place):
        images = corrupt(words, images, first_index, severity, name=name, **place)
        shown[name, int(severity)].append(np.asarray(images))
        return images

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_run._programs, "corrupt", recorded)
        rows = evaluation.evaluate(networks, test_set, key=KEY, corruptions=NAMES, severities=SEVERITIES, **options)
    return rows, {name: np.concatenate(parts)[: len(test_set)] for name, parts in shown.items()}


@pytest.fixture(scope="module")
def expected(networks, test_set):
    return evaluate(networks, test_set, batch_size=1000, devices=jax.devices()[:1], model_axis="loop")


def test_the_pixels_are_those_of_corrupt(expected, test_set):
    for (name, severity), pixels in expected[1].items():
        key = evaluation.test_set_key(KEY, name, severity)
        own = corruptions.corrupt(key, test_set.images, name=name, severity=severity)
        np.testing.assert_array_equal(pixels, own)


@pytest.mark.parametrize("batch_size", BATCHES)
@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("model_axis", MODEL_AXES)
def test_batches_devices_and_stacking_change_nothing(networks, test_set, expected, batch_size, devices, model_axis):
    rows, pixels = evaluate(
        networks, test_set, batch_size=batch_size, devices=jax.devices()[:devices], model_axis=model_axis
    )
    assert len(rows) == len(expected[0]) == 2 * (1 + len(NAMES) * len(SEVERITIES))
    for row, other in zip(rows, expected[0], strict=True):
        assert row.keys() == other.keys()
        for name, value in row.items():
            if isinstance(value, float) and name != "accuracy":
                np.testing.assert_allclose(value, other[name], atol=1e-5, err_msg=name)
            else:
                assert value == other[name], name
    assert pixels.keys() == expected[1].keys()
    for name, images in pixels.items():
        np.testing.assert_array_equal(images, expected[1][name])


def test_an_odd_number_of_devices_is_padded(networks, test_set, expected):
    rows, _ = evaluate(networks, test_set, devices=jax.devices()[:3], batch_size=250)
    assert [row["num_correct"] for row in rows] == [row["num_correct"] for row in expected[0]]


@pytest.mark.parametrize("count", [1, 4])
def test_each_set_is_generated_and_fetched_once_for_all_classifiers(networks, test_set, monkeypatch, count):
    generated, fetched, corrupt, get = collections.Counter(), [], _programs.corrupt, jax.device_get

    def counted(words, images, first_index, severity, *, name, **place):
        generated[name, int(severity), int(first_index)] += 1
        return corrupt(words, images, first_index, severity, name=name, **place)

    monkeypatch.setattr(_run._programs, "corrupt", counted)
    monkeypatch.setattr(jax, "device_get", lambda tree: (fetched.append(1), get(tree))[1])
    many = {f"net{index}": networks[f"net{index % 2}"] for index in range(count)}
    evaluation.evaluate(
        many, test_set, key=KEY, corruptions=NAMES, severities=SEVERITIES, batch_size=64, devices=jax.devices()[:2]
    )
    starts = (0, 62, 124, 186, 248)  # five equal batches, the same number on both devices
    assert generated == {(name, severity, start): 1 for name in NAMES for severity in SEVERITIES for start in starts}
    assert len(fetched) == 1 + len(NAMES) * len(SEVERITIES)


COMPILATION = "/jax/core/compile/backend_compile_duration"


def test_one_compilation_per_corruption_and_one_forward_per_architecture_and_shape(networks, test_set):
    compiled = collections.Counter()

    def listen(event, duration, *, fun_name="", **details):
        if event == COMPILATION:
            compiled[fun_name] += 1

    def run(**options):
        compiled.clear()
        evaluation.evaluate(everyone, test_set.take(87), key=KEY, **options)
        return {name: sum(compiled[each] for each in compiled if name in each) for name in PROGRAMS}

    thin = tiny(4, width=3)
    everyone = networks | {"thin": thin}
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        first = run(corruptions=("brightness", "saturate"), severities=(1, 3))
        assert first == {"corrupt": 2, "classify": 2, "summarize": 1}, compiled
        # Keys and placing: a few one-line programs, however many networks and test sets there are.
        assert compiled.total() - sum(first.values()) <= 6, compiled
        run(corruptions=("brightness", "saturate"), severities=(2, 4, 5))
        assert not compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.fixture
def three_cores(monkeypatch):
    monkeypatch.setattr(_streams.os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)


def test_batches_go_through_the_networks_side_by_side(networks, test_set, expected, monkeypatch, three_cores):
    threads, classify = [], _programs.classify

    def recorded(classifier, images, *args, **options):
        threads.append((threading.current_thread(), id(classifier), images.shape))
        return classify(classifier, images, *args, **options)

    monkeypatch.setattr(_run._programs, "classify", recorded)
    rows, _ = evaluate(networks, test_set, batch_size=1000, devices=jax.devices()[:1], model_axis="loop")
    for row, other in zip(rows, expected[0], strict=True):
        assert row["num_correct"] == other["num_correct"]
        np.testing.assert_allclose(row["brier_score"], other["brier_score"], atol=1e-5)
    assert {shape[0] for *_, shape in threads} == {101}  # one batch for each
    elsewhere = [thread for thread, *_ in threads if thread is not threading.main_thread()]
    assert 2 <= len(set(elsewhere)) <= 3
    # What compiles is called from one thread: each network's first batch of each shape.
    assert len(threads) - len(elsewhere) == len(networks)


def test_an_error_in_a_thread_reaches_the_caller(networks, test_set, monkeypatch, three_cores):
    classify = _programs.classify

    def failing(*args, **options):
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError("no room for this batch")
        return classify(*args, **options)

    monkeypatch.setattr(_run._programs, "classify", failing)
    with pytest.raises(MemoryError, match="no room for this batch"):
        evaluate(networks, test_set, devices=jax.devices()[:1], model_axis="loop")


def test_no_buffer_outlives_its_test_set(networks, test_set):
    images = test_set.take(64)
    live = []
    evaluation.evaluate(
        networks,
        images,
        key=KEY,
        corruptions=NAMES,
        severities=(1, 2, 3, 4, 5),
        batch_size=32,
        on_test_set=lambda name, severity: live.append(sum(each.nbytes for each in jax.live_arrays())),
    )
    assert len(live) == 11
    assert max(live) - live[0] < 1000  # a few scalars; one batch of images has 98,304 bytes


def test_a_data_set_that_is_too_large_to_stay_gives_the_same_rows(networks, test_set, expected, monkeypatch):
    monkeypatch.setattr(_run, "_RESIDENT_BYTES", 1000)
    rows, _ = evaluate(networks, test_set, batch_size=64, devices=jax.devices()[:1], model_axis="loop")
    assert [row["num_correct"] for row in rows] == [row["num_correct"] for row in expected[0]]
