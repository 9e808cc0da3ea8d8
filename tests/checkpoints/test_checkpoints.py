import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxprune import checkpoints, models


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    net = models.create(
        "resnet8",
        num_classes=10,
        key=jax.random.key(0),
        mean=(0.5, 0.4, 0.3),
        stage_widths=(4, 6, 8),
        std=(0.1, 0.2, 0.3),
    )
    masks = jax.tree.map(lambda leaf: (leaf > 0).astype(jnp.uint8) if leaf.ndim == 4 else None, net.params)
    path = tmp_path_factory.mktemp("checkpoints") / "net"
    checkpoints.save(path, net, masks=masks, metadata={"epochs": 3})
    return path, net, masks


def test_a_checkpoint_restores_weights_masks_options_and_metadata(saved):
    path, net, masks = saved
    restored = checkpoints.load(path)
    assert restored.metadata == {"epochs": 3}
    assert jax.tree.structure(restored.classifier) == jax.tree.structure(net)
    assert jax.tree.structure(restored.masks) == jax.tree.structure(masks)
    jax.tree.map(np.testing.assert_array_equal, (restored.classifier, restored.masks), (net, masks))


def test_saving_replaces_what_was_there_and_masks_are_optional(saved, tmp_path):
    _, net, masks = saved
    checkpoints.save(tmp_path / "net", net, masks=masks)
    checkpoints.save(tmp_path / "net", net)
    assert checkpoints.load(tmp_path / "net").masks is None


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no jaxprune checkpoint at .*give the folder"):
        checkpoints.load(tmp_path / "absent")


@pytest.mark.parametrize("lost", ["weights", "description/metadata", "weights/manifest.ocdbt"])
def test_a_damaged_checkpoint_is_refused(saved, tmp_path, lost):
    path = tmp_path / "net"
    shutil.copytree(saved[0], path)
    gone = path / lost
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(ValueError, match="is damaged .*delete that folder and save it again"):
        checkpoints.load(path)


def test_a_description_that_is_not_json_is_refused(saved, tmp_path):
    path = tmp_path / "net"
    shutil.copytree(saved[0], path)
    (path / "description" / "metadata").write_text('{"name": "resn')
    with pytest.raises(ValueError, match="is damaged .*delete that folder and save it again"):
        checkpoints.load(path)


def test_another_format_version_is_refused(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints.description, "FORMAT_VERSION", 99)
    with pytest.raises(ValueError, match="has format version 1; this release reads 99"):
        checkpoints.load(saved[0])


def test_other_shapes_than_the_description_says_are_refused_and_the_first_named(saved, tmp_path):
    path = tmp_path / "net"
    shutil.copytree(saved[0], path)
    file = path / "description" / "metadata"
    description = json.loads(file.read_text())
    description["options"]["stage_widths"] = [4, 6, 9]
    del description["checksum"]
    file.write_text(json.dumps(description))
    message = (
        r"does not hold a resnet8 as it says: \['batch_stats'\]\['stage3.*\['mean'\] has shape \[8\] instead of \[9\]"
    )
    with pytest.raises(ValueError, match=message):
        checkpoints.load(path)


def test_weights_that_do_not_fit_their_options_are_not_saved(saved, tmp_path):
    net = saved[1].replace(params=saved[1].params | {"head": {"bias": jnp.zeros(10), "kernel": jnp.zeros((7, 10))}})
    message = r"\['params'\]\['head'\]\['kernel'\] has shape \[7, 10\] instead of \[8, 10\]\); rebuild it with"
    for write in (checkpoints.save, checkpoints.export_safetensors):
        with pytest.raises(ValueError, match=message):
            write(tmp_path / "net", net)
    assert not list(tmp_path.iterdir())


def test_a_module_that_cannot_be_rebuilt_is_refused(tmp_path):
    linear = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    how = {"name": "Linear", "call": lambda module, images, train: module(images.mean((1, 2)))}
    net = models.from_nnx(linear, mean=0.0, std=1.0, **how)
    with pytest.raises(ValueError, match="can hold the models resnet8, .*not 'Linear'"):
        checkpoints.save(tmp_path / "net", net)


def test_what_is_missing_and_what_a_file_does_not_say_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*absent\.pt; give a folder .* or a PyTorch"):
        checkpoints.load(tmp_path / "absent.pt")
    (tmp_path / "weights.pt").write_bytes(b"PK")
    with pytest.raises(ValueError, match="which network it holds; give model and num_classes, the model"):
        checkpoints.load(tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="give num_classes, the model as one of resnet8"):
        checkpoints.load(tmp_path / "weights.pt", "resnet8")
