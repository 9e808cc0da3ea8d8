"""No damage of an `.npz` file passes for content."""

import numpy as np
import pytest

from jaxprune.files import npz

CONTENT = {
    "labels": np.arange(40, dtype=np.int32) % 10,
    "confidence": np.linspace(0.1, 0.9, 40, dtype=np.float32),
    "name": np.asarray("net"),
}


@pytest.fixture
def path(tmp_path):
    np.savez_compressed(tmp_path / "kept.npz", allow_pickle=False, **CONTENT)
    return tmp_path / "kept.npz"


def read_or_none(path):
    try:
        return npz.read(path, cure="make it again")
    except ValueError as caught:
        error = str(caught)
    assert error.startswith(f"{path} is damaged (")
    assert error.endswith("); make it again")
    return None


def test_a_flipped_bit_is_refused_or_changes_nothing(path):
    whole, refused = path.read_bytes(), 0
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        found = read_or_none(path)
        refused += found is None
        if found is not None:  # of a date, for example
            assert found.keys() == CONTENT.keys()
            for name, array in CONTENT.items():
                assert found[name].dtype == array.dtype
                np.testing.assert_array_equal(found[name], array)
    assert refused > len(whole) / 2


def test_a_file_cut_short_anywhere_is_refused(path):
    whole = path.read_bytes()
    for size in range(0, len(whole), 11):
        path.write_bytes(whole[:size])
        assert read_or_none(path) is None


def test_pickles_and_other_files_are_refused(path, tmp_path):
    np.savez(path, a=np.array([{}], object))
    with pytest.raises(ValueError, match=r"is damaged \(.*allow_pickle.*; make it again"):
        npz.read(path, cure="make it again")
    np.save(tmp_path / "other.npy", np.zeros(3))
    with pytest.raises(ValueError, match="is damaged"):
        npz.read(tmp_path / "other.npy", cure="make it again")
