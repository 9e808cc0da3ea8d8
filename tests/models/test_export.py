import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx

from jaxprune import models

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def net():
    return models.create("resnet8", num_classes=5, key=jax.random.key(0), mean=MEAN, std=STD, stage_widths=(4, 4, 4))


def images(count, size=32):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def test_the_file_gives_the_same_logits_for_any_batch(tmp_path):
    path = tmp_path / "deep" / "net.stablehlo"
    models.export_stablehlo(path, net())
    logits = models.load_stablehlo(path)
    for count in (1, 3):
        np.testing.assert_allclose(logits(images(count)), net().logits(images(count)), atol=1e-5)


def test_the_file_runs_without_jaxprune_and_flax(tmp_path):
    path = tmp_path / "net.stablehlo"
    models.export_stablehlo(path, net())
    np.save(tmp_path / "images.npy", images(2))
    program = f"""
import sys
import numpy as np
from jax import export
exported = export.deserialize(bytearray(open({str(path)!r}, "rb").read()))
logits = exported.call(np.load({str(tmp_path / "images.npy")!r}))
np.save({str(tmp_path / "logits.npy")!r}, logits)
assert not any(name in sys.modules for name in ("jaxprune", "flax"))
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), net().logits(images(2)), atol=1e-5)


def test_wrong_images_and_wrong_files_are_refused(tmp_path):
    path = tmp_path / "net.stablehlo"
    models.export_stablehlo(path, net())
    logits = models.load_stablehlo(path)
    with pytest.raises(ValueError, match=r"images are uint8 \[1, 16, 16, 3\]; net.stablehlo was exported for uint8"):
        logits(images(1, size=16))
    with pytest.raises(ValueError, match="float32"):
        logits(images(1).astype(np.float32))
    path.write_bytes(b"no export")
    with pytest.raises(ValueError, match="holds no exported classifier"):
        models.load_stablehlo(path)
    with pytest.raises(FileNotFoundError):
        models.load_stablehlo(tmp_path / "absent")


class OfOneSize(nnx.Module):
    def __init__(self):
        self.head = nnx.Linear(4 * 4 * 3, 5, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.head(x.reshape(x.shape[0], -1))


class OfAnySize(nnx.Module):
    def __init__(self):
        self.head = nnx.Linear(3, 5, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.head(x.mean(axis=(1, 2)))


def test_the_image_size_must_be_known_and_possible(tmp_path):
    any_size = models.from_nnx(OfAnySize(), mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="does not state its image_size; give image_size="):
        models.export_stablehlo(tmp_path / "net", any_size)
    one_size = models.from_nnx(OfOneSize(), mean=MEAN, std=STD)
    with pytest.raises(ValueError, match="cannot be exported for images of 8 x 8 pixels"):
        models.export_stablehlo(tmp_path / "net", one_size, image_size=8)
    models.export_stablehlo(tmp_path / "net", one_size)
    assert models.load_stablehlo(tmp_path / "net")(images(2, size=4)).shape == (2, 5)
