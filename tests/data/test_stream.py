"""Streams: the same images as in memory, in a seeded order, resumable, shared by hosts."""

import itertools
import subprocess
import sys
import zlib

import jax
import numpy as np
import optax
import pytest
from PIL import Image

from jaxprune import data, evaluation, models, training
from jaxprune.data import stream
from tests.data.prepared import write_tfds

COUNT, SIDE = 23, 4
pytest.importorskip("grain")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for index in range(COUNT):
        place = root / f"class{index % 3}"
        place.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 5 + index % 4, 3), np.uint8)).save(place / f"{index:02}.png")
    return root


@pytest.fixture(scope="module")
def streamed(folder):
    return data.stream_image_folder(folder, image_size=SIDE, split="train")


def take(streamed, **options):
    return list(streamed.batches(**{"batch_size": 5, **options}))


def joined(batches):
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))


def assert_same(actual, expected):
    for one, other in zip(itertools.chain(*actual), itertools.chain(*expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_stream_yields_what_memory_would_hold(folder, streamed):
    whole = data.load_image_folder(folder, image_size=SIDE)
    batches = take(streamed)
    assert [len(batch.images) for batch in batches] == [5, 5, 5, 5, 3]
    assert (len(streamed), streamed.num_batches(5), streamed.num_classes) == (COUNT, 5, 3)
    images, labels, indices = joined(batches)
    assert (images.dtype, labels.dtype, indices.dtype) == (np.uint8, np.int32, np.int64)
    np.testing.assert_array_equal(images, whole.images)
    np.testing.assert_array_equal(labels, whole.labels)
    np.testing.assert_array_equal(indices, np.arange(COUNT))
    assert (streamed.class_names, streamed.split) == (whole.class_names, "train")


def test_a_seeded_epoch_is_a_permutation_that_differs_by_seed_and_epoch(folder, streamed):
    whole = data.load_image_folder(folder, image_size=SIDE)
    orders = {}
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        images, labels, indices = joined(take(streamed, seed=seed, epoch=epoch))
        assert sorted(indices) == list(range(COUNT))
        np.testing.assert_array_equal(images, whole.images[indices])
        np.testing.assert_array_equal(labels, whole.labels[indices])
        orders[seed, epoch] = tuple(indices)
    assert len(set(orders.values())) == 3
    assert_same(take(streamed, seed=0, epoch=1, num_threads=1), take(streamed, seed=0, epoch=1))


def test_an_epoch_continues_where_it_was_left_without_reading_what_came_before(streamed):
    whole = take(streamed, seed=3)
    read = []
    counting = stream.StreamedDataset(
        lambda index: (read.append(index), streamed.read(index))[1], COUNT, SIDE, streamed.class_names
    )
    for start in range(6):
        read.clear()
        assert_same(take(counting, seed=3, start=start), whole[start:])
        assert len(read) == max(COUNT - 5 * start, 0)


@pytest.mark.parametrize(("process_count", "batch_size"), [(2, 6), (3, 6), (4, 8)])
def test_hosts_share_every_batch_and_take_the_same_number_of_steps(streamed, process_count, batch_size):
    alone = take(streamed, batch_size=batch_size, seed=2)
    hosts = [
        take(streamed, batch_size=batch_size, seed=2, process_index=host, process_count=process_count)
        for host in range(process_count)
    ]
    assert {len(batches) for batches in hosts} == {len(alone)}
    together = [data.Batch(*joined(parts)) for parts in zip(*hosts, strict=True)]
    assert_same(together, alone)
    for batches in hosts:
        assert all(batch.images.shape[1:] == (SIDE, SIDE, 3) for batch in batches)
    last = take(
        streamed, batch_size=batch_size, seed=2, process_index=process_count - 1, process_count=process_count, start=1
    )
    assert_same(last, hosts[-1][1:])


def test_a_host_may_get_no_rows_of_the_last_batch(streamed):
    (last,) = take(streamed, batch_size=20, process_index=3, process_count=4, start=1)
    assert last.images.shape == (0, SIDE, SIDE, 3)
    assert (last.labels.dtype, last.indices.dtype) == (np.int32, np.int64)


def test_tfds_sets_are_streamed_and_resized(shared):
    streamed = data.stream_tfds("cifar10", split="test", image_size=16, data_dir=shared("data/tfds"))
    whole = data.load("cifar10", split="test", data_dir=shared("data/tfds"), limit=8)
    batch = next(iter(streamed.batches(batch_size=8)))
    assert len(streamed) == 10_000
    np.testing.assert_array_equal(batch.labels, whole.labels)
    assert streamed.class_names == whole.class_names
    # A triangle filter at half the size takes 1, 3, 3, 1 eighths of four neighbours.
    rows = sum(w / 8 * whole.images[:, 1 + k : 29 + k : 2] for k, w in enumerate((1, 3, 3, 1)))
    inner = sum(w / 8 * rows[:, :, 1 + k : 29 + k : 2] for k, w in enumerate((1, 3, 3, 1)))
    assert np.abs(batch.images[:, 1:15, 1:15] - inner).max() <= 1.5
    full = data.stream_tfds("cifar10", split="test", image_size=32, data_dir=shared("data/tfds"))
    np.testing.assert_array_equal(next(iter(full.batches(batch_size=8))).images, whole.images)


def test_greyscale_tfds_images_become_rgb(tmp_path):
    grey = np.arange(36, dtype=np.uint8).reshape(6, 6)
    write_tfds(tmp_path, "grey", {"train": [{"image": grey, "label": 1}]}, {"label": ["a", "b"]})
    (batch,) = take(data.stream_tfds("grey", split="train", image_size=6, data_dir=tmp_path))
    np.testing.assert_array_equal(batch.images[0], np.repeat(grey[..., None], 3, axis=2))
    assert batch.labels.tolist() == [1]


@pytest.mark.parametrize("label", [1.7, "1", True, np.float32(1), np.array([1]), None])
def test_a_label_that_is_no_integer_is_refused(label):
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    made = stream.StreamedDataset(lambda index: (image, label), 3, SIDE, ("a", "b"))
    with pytest.raises(TypeError, match="has the label .*; give an integer"):
        take(made)


@pytest.mark.parametrize("label", [2**40, -1])
def test_a_label_that_no_class_can_have_is_refused(label):
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    made = stream.StreamedDataset(lambda index: (image, label), 3, SIDE, ("a", "b"))
    with pytest.raises(ValueError, match="has the label .*; classes count from 0"):
        take(made)


def test_streams_refuse_what_they_cannot_do(folder, streamed, tmp_path):
    for options, message in (
        ({"batch_size": 0}, "batch_size and num_threads must be >= 1"),
        ({"epoch": -1}, "seed and epoch >= 0"),
        ({"seed": -1}, "seed and epoch >= 0"),
        ({"start": 6}, "start=6; an epoch has 5 batches of 5"),
        ({"process_count": 2}, "the batch size a multiple of the number of hosts"),
        ({"process_index": 5, "process_count": 5}, r"index must be in 0\.\.4"),
    ):
        with pytest.raises(ValueError, match=message):
            streamed.batches(**{"batch_size": 5, **options})
    with pytest.raises(FileNotFoundError, match="no prepared 'imagenet2012' in .*tfds build imagenet2012"):
        data.stream_tfds("imagenet2012", split="train", image_size=224, data_dir=tmp_path)
    with pytest.raises(ValueError, match="training was given the test split of"):
        data.refuse_test_split(data.stream_image_folder(folder, image_size=4, split="test"), "training")


def test_an_unreadable_image_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as an image"):
        take(data.stream_image_folder(tmp_path, image_size=4))


def test_without_grain_the_error_names_the_extra(streamed, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxprune\[stream\]'"):
        streamed.batches(batch_size=5)


def test_importing_the_room_imports_no_optional_library():
    optional = ("grain", "PIL", "tensorflow_datasets", "sklearn")
    code = f"import sys, jaxprune.data; print([name for name in {optional} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def net():
    return models.create("resnet8", num_classes=3, key=jax.random.key(0), stage_widths=(4, 4, 4))


def test_evaluate_gives_the_same_rows_and_examples_as_from_memory(folder, streamed, net, tmp_path):
    whole = data.load_image_folder(folder, image_size=SIDE, split="train", mean=streamed.mean, std=streamed.std)
    how = {"key": jax.random.key(0), "corruptions": ["contrast"], "severities": [3], "batch_size": 10}
    expected = evaluation.evaluate(net, whole, keep_examples=tmp_path / "memory", **how)
    assert evaluation.evaluate(net, streamed, keep_examples=tmp_path / "stream", **how) == expected
    for file in ("clean-0.npz", "contrast-3.npz"):
        examples = [evaluation.load_examples(tmp_path / kind / net.name / file) for kind in ("memory", "stream")]
        for name in ("labels", "prediction", "confidence"):
            np.testing.assert_array_equal(*(getattr(each, name) for each in examples))


def test_evaluate_refuses_a_streamed_label_outside_the_classes(streamed, net):
    def read(index):
        return np.zeros((SIDE, SIDE, 3), np.uint8), index

    bad = data.StreamedDataset(read, 4, SIDE, streamed.class_names)
    with pytest.raises(ValueError, match=r"labels of 'unnamed' run from 0 to 3, outside 0\.\.2"):
        evaluation.evaluate(net, bad, corruptions=())


def weights(classifier):
    return jax.tree.leaves((classifier.params, classifier.batch_stats))


def test_fit_takes_the_steps_of_a_hand_written_loop(streamed, net):
    fitted = training.fit(net, streamed, optimizer=optax.sgd(0.01), epochs=2, batch_size=5, key=jax.random.key(3))

    @jax.jit
    def step(params, batch_stats, images, labels):
        def loss(params):
            logits, new_stats = net.apply(params, batch_stats, images, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), new_stats

        grads, new_stats = jax.grad(loss, has_aux=True)(params)
        return jax.tree.map(lambda param, grad: param - 0.01 * grad, params, grads), new_stats

    params, batch_stats = net.params, net.batch_stats
    seed = zlib.crc32(np.asarray(jax.random.key_data(jax.random.key(3))).tobytes())
    for epoch in (1, 2):
        for batch in take(streamed, seed=seed, epoch=epoch)[: COUNT // 5]:
            params, batch_stats = step(params, batch_stats, batch.images, batch.labels)
    for actual, expected, before in zip(
        weights(fitted), jax.tree.leaves((params, batch_stats)), weights(net), strict=True
    ):
        np.testing.assert_allclose(actual, expected, atol=1e-5)
        assert np.abs(actual - before).max() > 1e-3


def test_fit_resumes_a_stream_to_the_same_bits(streamed, net, tmp_path):
    how = {"optimizer": training.sgd(schedule="constant"), "batch_size": 5, "key": jax.random.key(3)}
    records = []
    expected = training.fit(net, streamed, epochs=2, **how, on_epoch=records.append)
    assert [record.epoch for record in records] == [1, 2]
    training.fit(net, streamed, epochs=1, checkpoint_dir=tmp_path, **how)
    resumed = training.fit(net, streamed, epochs=2, checkpoint_dir=tmp_path, **how)
    for actual, other in zip(weights(resumed), weights(expected), strict=True):
        np.testing.assert_array_equal(actual, other)


def test_what_needs_the_images_in_memory_refuses_a_stream(streamed, net):
    how = {"optimizer": optax.sgd(0.1), "epochs": 1}
    with pytest.raises(ValueError, match="fit_many needs the images in memory"):
        training.fit_many([net], streamed, keys=[jax.random.key(0)], **how)
    with pytest.raises(ValueError, match="validation images must fit in memory"):
        training.fit(net, streamed, key=jax.random.key(0), validation=streamed, **how)
