import builtins
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxprune import checkpoints, models

safetensors = pytest.importorskip("safetensors.numpy")


@pytest.fixture(scope="module")
def net():
    return models.create(
        "resnet8",
        num_classes=10,
        key=jax.random.key(0),
        mean=(0.5, 0.4, 0.3),
        stage_widths=(4, 6, 8),
        std=(0.1, 0.2, 0.3),
    )


@pytest.fixture(scope="module")
def exported(net, tmp_path_factory):
    masks = jax.tree.map(lambda leaf: (leaf > 0).astype(jnp.uint8) if leaf.ndim == 4 else None, net.params)
    path = tmp_path_factory.mktemp("export") / "new" / "net.safetensors"
    checkpoints.export_safetensors(path, net, masks=masks)
    return path, masks


def rewritten(exported, tmp_path, change):
    """Returns a copy of the file whose arrays and description `change` has had its way with."""
    with safetensors.safe_open(exported[0], framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    description = json.loads(metadata["jaxprune"])
    change(arrays, description)
    safetensors.save_file(arrays, tmp_path / "net", {"jaxprune": json.dumps(description)})
    return tmp_path / "net"


def test_an_exported_classifier_and_its_masks_come_back(exported, net):
    restored = checkpoints.load_safetensors(exported[0])
    assert isinstance(restored, checkpoints.Checkpoint)
    assert restored.metadata == {}
    for here, there in ((restored.classifier, net), (restored.masks, exported[1])):
        assert jax.tree.structure(here) == jax.tree.structure(there)
        jax.tree.map(np.testing.assert_array_equal, here, there)
    assert {leaf.dtype for leaf in jax.tree.leaves(restored.masks)} == {np.dtype("uint8")}
    assert [path.name for path in exported[0].parent.iterdir()] == ["net.safetensors"]


def test_without_masks_there_are_none(net, tmp_path):
    checkpoints.export_safetensors(tmp_path / "net", net)
    assert checkpoints.load_safetensors(tmp_path / "net").masks is None


def test_others_read_flat_dotted_names_and_masks(exported, net):
    arrays = safetensors.load_file(exported[0])
    np.testing.assert_array_equal(arrays["params.conv.kernel"], net.params["conv"]["kernel"])
    np.testing.assert_array_equal(arrays["batch_stats.bn.var"], net.batch_stats["bn"]["var"])
    mask = exported[1]["stage1_block0"]["conv1"]["kernel"]
    np.testing.assert_array_equal(arrays["masks.stage1_block0.conv1.kernel"], mask)
    assert arrays["masks.stage1_block0.conv1.kernel"].dtype == np.uint8
    assert "masks.head.kernel" not in arrays
    torch = pytest.importorskip("safetensors.torch")
    assert torch.load_file(exported[0])["params.conv.kernel"].shape == (3, 3, 3, 4)


def test_another_shape_or_a_missing_array_is_refused_and_named(exported, tmp_path):
    def other_shape(arrays, description):
        arrays["params.head.kernel"] = np.zeros((7, 10), np.float32)

    with pytest.raises(ValueError, match=r"params\.head\.kernel'\] has shape \[7, 10\] instead of \[8, 10\]"):
        checkpoints.load_safetensors(rewritten(exported, tmp_path, other_shape))
    with pytest.raises(ValueError, match=r"batch_stats\.bn\.mean'\] is missing"):
        checkpoints.load_safetensors(rewritten(exported, tmp_path, lambda arrays, _: arrays.pop("batch_stats.bn.mean")))

    with pytest.raises(ValueError, match=r"masks\.conv\.kernel'\] is missing"):
        checkpoints.load_safetensors(rewritten(exported, tmp_path, lambda arrays, _: arrays.pop("masks.conv.kernel")))

    def one_more(arrays, description):
        arrays["params.extra"] = np.zeros(1, np.float32)

    with pytest.raises(ValueError, match=r"params\.extra'\] is not part of the network"):
        checkpoints.load_safetensors(rewritten(exported, tmp_path, one_more))


def test_another_version_is_refused(exported, tmp_path):
    path = rewritten(exported, tmp_path, lambda _, description: description.update(format_version=99))
    with pytest.raises(ValueError, match="has format version 99; this release reads 1"):
        checkpoints.load_safetensors(path)


def test_missing_damaged_and_foreign_files_are_refused(exported, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file at .*give one that checkpoints.export_safetensors wrote"):
        checkpoints.load_safetensors(tmp_path / "absent")
    (tmp_path / "short").write_bytes(exported[0].read_bytes()[:-100])
    with pytest.raises(ValueError, match="is no intact safetensors file"):
        checkpoints.load_safetensors(tmp_path / "short")
    (tmp_path / "text").write_text("not at all")
    with pytest.raises(ValueError, match="is no intact safetensors file"):
        checkpoints.load_safetensors(tmp_path / "text")
    safetensors.save_file({"w": np.zeros(3, np.float32)}, tmp_path / "foreign")
    with pytest.raises(ValueError, match="does not say which network it holds"):
        checkpoints.load_safetensors(tmp_path / "foreign")


def test_a_module_that_cannot_be_rebuilt_is_refused(tmp_path):
    linear = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    how = {"name": "Linear", "call": lambda module, images, train: module(images.mean((1, 2)))}
    net = models.from_nnx(linear, mean=0.0, std=1.0, **how)
    with pytest.raises(ValueError, match="can hold the models resnet8, .*not 'Linear'"):
        checkpoints.export_safetensors(tmp_path / "net", net)


def test_a_missing_package_is_named(monkeypatch, net, tmp_path):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("safetensors"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="safetensors is not installed; pip install safetensors"):
        checkpoints.export_safetensors(tmp_path / "net", net)
