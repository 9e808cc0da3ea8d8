"""The accumulators in the loops of Flax and CLU: jit, pmap and shard_map give what one shot gives."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxprune import metrics

SIZE, BATCH, CLASSES = 96, 32, 5
SHARDED, WHOLE = PartitionSpec("batch"), PartitionSpec()


@pytest.fixture(scope="module")
def mesh():
    return Mesh(np.array(jax.devices()), ("batch",))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    images = rng.normal(size=(SIZE, 8)).astype(np.float32)
    labels = rng.integers(0, CLASSES, SIZE).astype(np.int32)
    return images, labels, (rng.random(SIZE) < 0.8)


def batches(*arrays):
    for start in range(0, SIZE, BATCH):
        yield tuple(array[start : start + BATCH] for array in arrays)


class Model(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(8, CLASSES, rngs=rngs)

    def __call__(self, images):
        return 2 * self.linear(images)


def loss_of(model, images, labels, mask):
    logits = model(images)
    log_probs = jax.nn.log_softmax(logits)
    losses = -jnp.take_along_axis(log_probs, labels[:, None], axis=1)[:, 0]
    return (losses * mask).sum() / mask.sum(), logits


def multi_metric(axis_name=None):
    return nnx.MultiMetric(
        accuracy=nnx.metrics.Accuracy(),
        loss=nnx.metrics.Average("loss"),
        error=metrics.nnx_metric(metrics.CalibrationBins.empty(num_bins=10), axis_name=axis_name),
        l2=metrics.nnx_metric(metrics.CalibrationBins.empty(num_bins=10), norm="l2", axis_name=axis_name),
        scores=metrics.nnx_metric(metrics.ScoreSums, axis_name=axis_name),
    )


def one_shot(logits, labels, mask):
    options = {"from_logits": True, "weights": mask}
    error = [metrics.expected_calibration_error(logits, labels, num_bins=10, norm=n, **options) for n in ("l1", "l2")]
    return [*error, metrics.brier_score(logits, labels, **options)]


def values(computed):
    return [computed["error"], computed["l2"], computed["scores"]["brier_score"]]


@pytest.fixture(scope="module")
def expected(data):
    images, labels, mask = data
    return one_shot(Model(nnx.Rngs(0))(images), labels, mask)


@pytest.mark.parametrize("sharded", [False, True])
def test_an_evaluation_loop_under_nnx_jit(data, mesh, expected, sharded):
    model, multi = Model(nnx.Rngs(0)), multi_metric()

    @nnx.jit
    def eval_step(model, multi, images, labels, mask):
        loss, logits = loss_of(model, images, labels, mask)
        multi.update(loss=loss, logits=logits, labels=labels, mask=mask)

    for _ in range(2):
        multi.reset()
        assert np.isnan(multi.error.compute())
        for batch in batches(*data):
            eval_step(model, multi, *(jax.device_put(batch, NamedSharding(mesh, SHARDED)) if sharded else batch))
        np.testing.assert_allclose(values(multi.compute()), expected, rtol=1e-6)


def test_a_training_loop_reports_what_its_steps_saw(data):
    images, labels, mask = data
    model, multi = Model(nnx.Rngs(0)), multi_metric()
    seen = []

    @nnx.jit
    def train_step(model, multi, images, labels, mask):
        (loss, logits), gradients = nnx.value_and_grad(loss_of, has_aux=True)(model, images, labels, mask)
        nnx.update(model, jax.tree.map(lambda p, g: p - 0.1 * g, nnx.state(model, nnx.Param), gradients))
        multi.update(loss=loss, logits=logits, labels=labels, mask=mask)
        return logits

    for batch in batches(images, labels, mask):
        seen.append(train_step(model, multi, *batch))
    np.testing.assert_allclose(values(multi.compute()), one_shot(np.concatenate(seen), labels, mask), rtol=1e-6)


def functional_step():
    """Returns a step of split objects, on one device's part of a batch."""
    model, multi = Model(nnx.Rngs(0)), multi_metric("batch")
    (graph, model_state), (multi_graph, multi_state) = nnx.split(model), nnx.split(multi)

    def step(multi_state, model_state, images, labels, mask):
        model, multi = nnx.merge(graph, model_state), nnx.merge(multi_graph, multi_state)
        logits = model(images)
        for metric in (multi.error, multi.l2, multi.scores):
            metric.update(logits=logits, labels=labels, mask=mask)
        return nnx.state(multi)

    return step, multi_state, model_state, lambda state: nnx.merge(multi_graph, state).compute()


def test_shard_map(data, mesh, expected):
    step, state, model_state, compute = functional_step()
    mapped = jax.jit(
        jax.shard_map(step, mesh=mesh, in_specs=(WHOLE, WHOLE, SHARDED, SHARDED, SHARDED), out_specs=WHOLE)
    )
    for batch in batches(*data):
        state = mapped(state, model_state, *batch)
    np.testing.assert_allclose(values(compute(state)), expected, rtol=1e-6)


def test_pmap(data, expected):
    step, state, model_state, compute = functional_step()
    state, model_state = (flax.jax_utils.replicate(tree) for tree in (state, model_state))
    mapped = jax.pmap(step, axis_name="batch")
    for batch in batches(*data):
        state = mapped(state, model_state, *(x.reshape(8, BATCH // 8, *x.shape[1:]) for x in batch))
    np.testing.assert_allclose(values(compute(flax.jax_utils.unreplicate(state))), expected, rtol=1e-6)


def test_the_mean_of_the_devices_errors_is_another_number(data, rng):
    images, _, mask = data
    logits = Model(nnx.Rngs(0))(images)
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # a calibrated network: what is left is noise
    error = functools.partial(metrics.expected_calibration_error, from_logits=True, num_bins=10)

    def mean_of_errors(logits, labels, mask):
        return jax.lax.pmean(error(logits, labels, weights=mask), "batch")

    split = (x.reshape(8, SIZE // 8, *x.shape[1:]) for x in (logits, labels, mask))
    mean = jax.pmap(mean_of_errors, axis_name="batch")(*split)[0]
    assert mean > 1.5 * error(logits, labels, weights=mask)


def test_probabilities_have_their_own_name(oracles):
    case = oracles.problem(4)
    metric = metrics.nnx_metric(metrics.CalibrationBins.empty(num_bins=10))
    metric.update(probs=case.probs, labels=case.labels, weights=case.weights, something_else=1)
    assert (
        abs(metric.compute() - oracles.expected_calibration_error(case.probs, case.labels, case.weights, num_bins=10))
        < 1e-6
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.update(labels=np.zeros(2, int)), TypeError, "either logits= or probs= to update, got neither"),
        (
            lambda m: m.update(labels=np.zeros(2, int), logits=np.zeros((2, 2)), probs=np.zeros((2, 2))),
            TypeError,
            "either logits= or probs= to update, got both",
        ),
        (
            lambda m: m.update(labels=np.zeros(2, int), logits=np.zeros((2, 2)), mask=np.ones(2), weights=np.ones(2)),
            TypeError,
            "either mask= or weights=",
        ),
        (lambda m: m.update(labels=np.zeros(2, int), probs=np.ones((2, 2), np.float32)), ValueError, "do not sum to 1"),
        (lambda m: metrics.nnx_metric(metrics.accuracy), TypeError, "accumulator must be an empty accumulator"),
    ],
)
def test_mistakes_are_named_with_their_cure(call, error, message):
    with pytest.raises(error, match=message):
        call(metrics.nnx_metric(metrics.CalibrationBins))


@pytest.fixture(scope="module")
def clu():
    return pytest.importorskip("clu.metrics", reason="clu is optional: pip install clu")


def collection(clu):
    return clu.Collection.create(
        accuracy=clu.Accuracy,
        error=metrics.clu_metric(metrics.CalibrationBins.empty(num_bins=10)),
        l2=metrics.clu_metric(metrics.CalibrationBins.empty(num_bins=10), norm="l2"),
        scores=metrics.clu_metric(metrics.ScoreSums),
    )


def test_clu_collections_under_jit(clu, data, expected):
    model, Metrics = Model(nnx.Rngs(0)), collection(clu)

    @jax.jit
    def eval_step(collected, images, labels, mask):
        return collected.merge(Metrics.single_from_model_output(logits=model(images), labels=labels, mask=mask))

    collected = Metrics.empty()
    for batch in batches(*data):
        collected = eval_step(collected, *batch)
    np.testing.assert_allclose(values(collected.compute()), expected, rtol=1e-6)


@pytest.mark.parametrize("transformation", ["pmap", "shard_map"])
def test_clu_collections_across_devices(clu, data, mesh, expected, transformation):
    model, Metrics = Model(nnx.Rngs(0)), collection(clu)

    def eval_step(collected, images, labels, mask):
        outputs = {"logits": model(images), "labels": labels, "mask": mask}
        return collected.merge(Metrics.gather_from_model_output(axis_name="batch", **outputs))

    collected = Metrics.empty()
    if transformation == "pmap":
        collected, mapped = flax.jax_utils.replicate(collected), jax.pmap(eval_step, axis_name="batch")
    else:
        # clu gathers, and JAX cannot see that all devices then hold the same.
        specs = {"in_specs": (WHOLE, SHARDED, SHARDED, SHARDED), "out_specs": WHOLE, "check_vma": False}
        mapped = jax.jit(jax.shard_map(eval_step, mesh=mesh, **specs))
    for batch in batches(*data):
        batch = [x.reshape(8, BATCH // 8, *x.shape[1:]) for x in batch] if transformation == "pmap" else batch
        collected = mapped(collected, *batch)
    collected = collected.unreplicate() if transformation == "pmap" else collected
    np.testing.assert_allclose(values(collected.compute()), expected, rtol=1e-6)


def test_without_clu_its_name_is_said(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "clu", None)
    monkeypatch.setitem(sys.modules, "clu.metrics", None)
    with pytest.raises(ImportError, match="clu_metric needs clu; install it with: pip install clu"):
        metrics.clu_metric(metrics.CalibrationBins)
