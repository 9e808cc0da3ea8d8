"""One way to open every kind of file or folder that holds a network."""

from jaxprune import files, models
from jaxprune.checkpoints import folder, safetensors_file
from jaxprune.checkpoints.folder import Checkpoint


def load(path, model: str | None = None, **hints) -> Checkpoint:
    """Returns the classifier at `path`, its masks (None if there are none) and the metadata of a checkpoint folder.

    A folder that `save` wrote and a `.safetensors` file of `export_safetensors` say which network they hold; `model`
    and the hints are not looked at then. A PyTorch file holds weights alone, and needs to be told.

    Args:
      path: a folder or a file, local or `gs://`.
      model: the architecture of a PyTorch file, a name of `models.MODELS`.
      **hints: of a PyTorch file, what `models.from_torch` takes: `num_classes`, `mean`, `std` and the architecture's
        options.

    Raises:
      FileNotFoundError: nothing is at `path`.
      ValueError: an empty path; a damaged file; another network or another format version than it says; weights that
        are not finite; a PyTorch file without `model`.
    """
    path = files.named(path, what="checkpoint")
    if path.is_dir() or not (path.suffix or path.exists()):
        return folder.load(path)
    if path.suffix == ".safetensors":
        return safetensors_file.load_safetensors(path)
    if not path.exists():
        raise FileNotFoundError(
            f"no checkpoint at {path}; give a folder that checkpoints.save wrote, a .safetensors file, or a PyTorch "
            ".pt or .pth file"
        )
    needed = {"model": model, "num_classes": hints.get("num_classes")}
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise ValueError(
            f"{path} does not say which network it holds; give {' and '.join(missing)}, the model as one of "
            f"{', '.join(models.MODELS)}"
        )
    return Checkpoint(models.from_torch(path, name=model, **hints), None, {})
