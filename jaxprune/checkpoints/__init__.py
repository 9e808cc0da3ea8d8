"""Saves and restores a classifier of the `MODELS` table and its masks: as an orbax folder, or a safetensors file."""

from jaxprune.checkpoints.description import FORMAT_VERSION
from jaxprune.checkpoints.folder import Checkpoint, save
from jaxprune.checkpoints.loading import load
from jaxprune.checkpoints.safetensors_file import export_safetensors, load_safetensors

__all__ = ["FORMAT_VERSION", "Checkpoint", "export_safetensors", "load", "load_safetensors", "save"]
