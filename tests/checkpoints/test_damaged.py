"""Files and folders that hold networks: damaged, of types that no network has, written before there were check sums."""

import gc
import json
import pathlib
import shutil
import tarfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxprune import checkpoints, data, models, pruning, training

safetensors = pytest.importorskip("safetensors.numpy")

# Written at commit 4783a9c.
OLD_FILES = pathlib.Path(__file__).parent.parent / "data" / "files_without_check_sums.tar.xz"
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
FLIPS = 12  # of each kind of file, 120 by hand


@pytest.fixture(scope="module")
def net():
    return models.create("resnet8", num_classes=3, key=jax.random.key(0), mean=(0.5, 0.4, 0.3), stage_widths=(2, 2, 2))


@pytest.fixture(scope="module")
def masks(net):
    return jax.tree.map(lambda leaf: (leaf > 0).astype(jnp.uint8) if leaf.ndim == 4 else None, net.params)


def save(path, net, masks):
    checkpoints.save(path, net, masks=masks, metadata={"epochs": 3})


def export_safetensors(path, net, masks):
    checkpoints.export_safetensors(path, net, masks=masks)


def save_masks(path, net, masks):
    pruning.save_masks(path, masks)


def export_stablehlo(path, net, masks):
    models.export_stablehlo(path, net)


def arrays_of(checkpoint):
    classifier = checkpoint.classifier
    return jax.device_get(
        (classifier.params, classifier.batch_stats, classifier.mean, classifier.std, checkpoint.masks)
    )


# What writes each kind of file, and what is in it as it is read.
KINDS = {
    "checkpoint": (save, lambda path: arrays_of(checkpoints.load(path))),
    "safetensors": (export_safetensors, lambda path: arrays_of(checkpoints.load_safetensors(path))),
    "masks": (save_masks, pruning.load_masks),
    "stablehlo": (export_stablehlo, lambda path: models.load_stablehlo(path)(IMAGES)),
}


def equal(one, other):
    return jax.tree.structure(one) == jax.tree.structure(other) and jax.tree.all(jax.tree.map(_same, one, other))


def _same(one, other):
    return one.dtype == other.dtype and np.array_equal(one, other)


def flip_bits(path, work, rng, flips):
    """Calls `work()` with one random bit of a file changed, so many times over."""
    intact = path.read_bytes()
    for position in rng.integers(0, 8 * len(intact), flips):
        damaged = bytearray(intact)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(bytes(damaged))
        work()
    path.write_bytes(intact)


def flip_everywhere(kind, net, masks, folder, flips):
    """Returns how many flips of a bit were refused, and how many changed nothing; asserts that there is no other."""
    write, read = KINDS[kind]
    path, ends = folder / kind, []
    write(path, net, masks)
    expected = read(path)

    def read_damaged():
        try:
            found = read(path)
        except ValueError as error:
            ends.append("refused" if "\n" not in str(error) else "several lines")
        else:
            assert equal(found, expected)
            ends.append("same")

    parts = [path] if path.is_file() else [part for part in sorted(path.rglob("*")) if part.stat().st_size]
    for part in parts:
        if part.is_file():
            flip_bits(part, read_damaged, np.random.default_rng(len(ends)), flips)
    assert equal(read(path), expected)
    assert set(ends) <= {"refused", "same"}
    return ends.count("refused"), ends.count("same")


@pytest.mark.parametrize("kind", KINDS)
def test_one_bit_that_flips_gives_no_other_network(kind, net, masks, tmp_path, caplog):
    flips = FLIPS if kind != "checkpoint" else 2  # of each of its files
    refused, _ = flip_everywhere(kind, net, masks, tmp_path, flips)
    assert refused
    gc.collect()  # when asyncio tells of errors that nobody asked for
    assert not caplog.records


@pytest.mark.parametrize("kind", ["safetensors", "masks", "stablehlo"])
def test_a_file_that_is_cut_short_or_goes_on_is_refused(kind, net, masks, tmp_path):
    write, read = KINDS[kind]
    write(tmp_path / kind, net, masks)
    content = (tmp_path / kind).read_bytes()
    for damaged in (content[:-1], content[: len(content) // 2], content[:150], content[:3], b"", content + b"\0"):
        (tmp_path / kind).write_bytes(damaged)
        if kind == "masks" and damaged == content + b"\0":  # an archive may have a comment
            continue
        with pytest.raises(ValueError, match=rf"/{kind} |masks in "):
            read(tmp_path / kind)


def test_the_check_sum_of_an_export_is_nothing_to_jax(net, tmp_path):
    models.export_stablehlo(tmp_path / "net", net)
    content = (tmp_path / "net").read_bytes()
    assert b"SHA-256" in content[:200]
    exported = jax.export.deserialize(bytearray(content))
    np.testing.assert_array_equal(exported.call(IMAGES), models.load_stablehlo(tmp_path / "net")(IMAGES))


# ---- types ----

TYPES = ("bool", "int32", "uint8", "complex64", "float64")


def with_kernel(net, kernel):
    return net.replace(params=net.params | {"conv": {"kernel": kernel}})


def rewrite(path, change):
    """Gives a safetensors file other arrays, under the description that it has, without its check sums."""
    with safetensors.safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        description = json.loads(file.metadata()["jaxprune"])
    change(arrays)
    for added in ("checksum", "checksums", "dtypes"):
        description.pop(added, None)
    safetensors.save_file(arrays, path, {"jaxprune": json.dumps(description)})


@pytest.mark.parametrize("kind", TYPES)
def test_a_network_of_another_type_is_refused_by_name(kind, net, tmp_path):
    kernel = np.ones(net.params["conv"]["kernel"].shape, kind)
    for write in (checkpoints.save, checkpoints.export_safetensors):
        with pytest.raises(ValueError, match=rf"\['conv'\]\['kernel'\] is {kind} instead of float32"):
            write(tmp_path / "net", with_kernel(net, kernel))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", TYPES)
def test_a_file_with_arrays_of_another_type_is_refused_by_name(kind, net, tmp_path):
    path = tmp_path / "net"
    checkpoints.export_safetensors(path, net)
    rewrite(path, lambda arrays: arrays.update({"params.conv.kernel": np.ones((3, 3, 3, 2), kind)}))
    with pytest.raises(ValueError, match=rf"params\.conv\.kernel'\] is {kind} instead of float32"):
        checkpoints.load_safetensors(path)


@pytest.mark.parametrize("kind", ["int32", "float64", "bool"])
def test_a_folder_with_arrays_of_another_type_is_refused_by_name(kind, net, tmp_path):
    """Orbax would convert them without a word."""
    import orbax.checkpoint as ocp

    path = tmp_path / "net"
    checkpoints.save(path, net)
    odd = with_kernel(net, np.ones((3, 3, 3, 2), kind))
    weights = jax.device_get({"params": odd.params, "batch_stats": odd.batch_stats})
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(path / "weights", args=ocp.args.StandardSave(weights), force=True)
    with pytest.raises(ValueError, match=rf"\['conv'\]\['kernel'\] is {kind} instead of float32"):
        checkpoints.load(path)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_half_precision_comes_back_as_it_was(kind, net, masks, tmp_path):
    half = net.replace(params=jax.tree.map(lambda leaf: leaf.astype(kind), net.params))
    mixed = with_kernel(half, net.params["conv"]["kernel"])
    for classifier in (half, mixed):
        checkpoints.save(tmp_path / "folder", classifier, masks=masks)
        checkpoints.export_safetensors(tmp_path / "file", classifier, masks=masks)
        for back in (checkpoints.load(tmp_path / "folder"), checkpoints.load_safetensors(tmp_path / "file")):
            assert equal(back.classifier.params, classifier.params)
            assert equal(back.classifier.batch_stats, classifier.batch_stats)
            assert equal(back.masks, masks)


# ---- masks ----


def test_masks_of_other_values_or_of_another_network_are_not_saved(net, masks, tmp_path):
    def changed(mask):
        return masks | {"conv": {"kernel": mask}}

    odd = {
        "other values than 0 and 1": [changed(np.full((3, 3, 3, 2), value)) for value in (2, 255, 0.5, -1, np.nan)],
        "has shape": [changed(np.ones((3, 3, 3, 3), np.uint8)), changed(np.ones(1, np.uint8))],
        "do not; give the masks of this network": [{"conv": masks["conv"]}, masks | {"extra": masks["conv"]}],
    }
    for message, each in odd.items():
        for wrong in each:
            for write in (checkpoints.save, checkpoints.export_safetensors):
                with pytest.raises(ValueError, match=message):
                    write(tmp_path / "net", net, masks=wrong)
    assert not list(tmp_path.iterdir())


def test_masks_of_other_values_are_not_loaded(net, masks, tmp_path):
    checkpoints.export_safetensors(tmp_path / "net", net, masks=masks)
    twos = np.full((3, 3, 3, 2), 2, np.uint8)
    rewrite(tmp_path / "net", lambda arrays: arrays.update({"masks.conv.kernel": twos}))
    with pytest.raises(ValueError, match=r"the mask of \['conv'\]\['kernel'\] has other values than 0 and 1"):
        checkpoints.load_safetensors(tmp_path / "net")


def write_mask_file(path, bits, shape):
    header = {"format": "jaxprune masks", "version": 1, "masks": [{"path": ["w"], "shape": shape}]}
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **bits)


@pytest.mark.parametrize(
    ("bits", "shape"),
    [
        ({"mask0": np.full(1, 255, np.uint8)}, [4, 4]),  # too few
        ({"mask0": np.full(3, 255, np.uint8)}, [4, 4]),  # too many
        ({"mask0": np.full(16, 1, np.uint8)}, [4, 4]),  # not packed
        ({"mask0": np.full(2, 255, np.int64)}, [4, 4]),
        ({"mask0": np.full(2, 255, np.uint8)}, [-4, -4]),
        ({"mask0": np.full(2, 255, np.uint8)}, [1.5]),
        ({"mask0": np.full(2, 255, np.uint8)}, "16"),
        ({}, [4, 4]),
    ],
)
def test_a_mask_file_with_other_bits_than_its_shapes_need_is_refused(tmp_path, bits, shape):
    write_mask_file(tmp_path / "masks.npz", bits, shape)
    with pytest.raises(ValueError, match=r"the masks in .*masks.npz are damaged \(.*; save them again"):
        pruning.load_masks(tmp_path / "masks.npz")


# ---- not finite ----


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_is_not_finite_is_not_loaded(net, tmp_path, value):
    broken = with_kernel(net, net.params["conv"]["kernel"].at[0, 0, 0, 0].set(value))
    checkpoints.save(tmp_path / "folder", broken)
    checkpoints.export_safetensors(tmp_path / "file", broken)
    for load, name in ((checkpoints.load, "folder"), (checkpoints.load_safetensors, "file")):
        with pytest.raises(ValueError, match=rf"{name} is not finite: params\['conv'\]\['kernel'\] holds"):
            load(tmp_path / name)


# ---- from before ----


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(OLD_FILES) as archive:
        archive.extractall(folder, filter="data")
    return folder


class Tiny(nnx.Module):
    def __init__(self):
        self.head = nnx.Linear(3, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.head(x.mean((1, 2)))


def test_files_without_check_sums_are_read(old, capsys):
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3)).astype(np.uint8)
    images = np.stack([np.resize(images[0], (32, 32, 3))] * 2)
    with np.load(old / "expected.npz") as file:
        expected = dict(file)
    folder, file = checkpoints.load(old / "folder"), checkpoints.load_safetensors(old / "net.safetensors")
    assert folder.metadata == {"epochs": 3}
    for found in (folder, file):
        np.testing.assert_allclose(found.classifier.logits(images), expected["logits"], atol=1e-5)
        assert equal(found.masks, pruning.load_masks(old / "masks.npz", found.classifier.params))
    np.testing.assert_allclose(models.load_stablehlo(old / "net.stablehlo")(images), expected["logits"], atol=1e-5)
    half = checkpoints.load(old / "bfloat16").classifier.params["conv"]["kernel"]
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half.astype(np.float32), expected["half"])
    assert capsys.readouterr().err == ""


def test_a_training_from_before_goes_on(old, tmp_path):
    import optax

    shutil.copytree(old / "training", tmp_path / "training")
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3)).astype(np.uint8)
    start = models.from_nnx(Tiny(), mean=(0.5,) * 3, std=(0.3,) * 3, name="tiny")
    kernel = jnp.arange(6, dtype=jnp.float32).reshape(3, 2) / 8
    start = start.replace(params={"head": {"bias": jnp.zeros(2), "kernel": kernel}})
    few = data.Dataset(images, np.arange(8, dtype=np.int32) % 2, ("a", "b"), name="tiny", split="train")
    records = []
    trained = training.fit(
        start,
        few,
        optimizer=optax.sgd(0.1),
        epochs=3,
        key=jax.random.key(7),
        batch_size=4,
        checkpoint_dir=tmp_path / "training",
        on_epoch=records.append,
    )
    assert [record.epoch for record in records] == [3]
    with np.load(old / "expected.npz") as file:
        assert not np.array_equal(trained.params["head"]["kernel"], file["tiny"])
    # Rotated like those of this release.
    steps = sorted(path.name for path in (tmp_path / "training").glob("step_*"))
    assert steps == ["step_00000004", "step_00000006"]


def test_folders_and_files_from_before_are_replaced_but_for_exports(old, net, masks, tmp_path):
    shutil.copytree(old, tmp_path / "old")
    for name, kind in {"folder": "checkpoint", "net.safetensors": "safetensors", "masks.npz": "masks"}.items():
        write, read = KINDS[kind]
        write(tmp_path / "old" / name, net, masks)
        write(tmp_path / kind, net, masks)
        assert equal(read(tmp_path / "old" / name), read(tmp_path / kind))
    before = (tmp_path / "old" / "net.stablehlo").read_bytes()
    with pytest.raises(FileExistsError, match="is no StableHLO export that jaxprune wrote"):
        export_stablehlo(tmp_path / "old" / "net.stablehlo", net, masks)
    assert (tmp_path / "old" / "net.stablehlo").read_bytes() == before
