"""Checks of options: names, numbers of bins, levels. No JAX, for what runs on the host alone."""

BINNINGS = ("equal_width", "equal_mass")
NORMS = ("l1", "l2", "max", "average")


def check_option(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raises `ValueError` unless `value` is one of the `allowed` names."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def check_threshold(threshold: float) -> None:
    """Raises `ValueError` unless `threshold` is a probability."""
    if not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be a probability in [0, 1], got {threshold!r}")


def check_positive(name: str, value: int) -> None:
    """Raises `ValueError` unless `value` is an integer of at least 1."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")


def check_bins(num_bins: int, binning: str) -> None:
    """Raises `ValueError` unless there is at least one bin, of a known kind."""
    check_positive("num_bins", num_bins)
    check_option("binning", binning, BINNINGS)


def check_level(level: float) -> None:
    """Raises `ValueError` unless `level` is a probability strictly between 0 and 1."""
    if not isinstance(level, int | float) or not 0 < level < 1:
        raise ValueError(f"level must be strictly between 0 and 1, for instance 0.95, got {level!r}")
