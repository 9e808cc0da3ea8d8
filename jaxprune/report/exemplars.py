"""Pruning-identified exemplars: the images that dense and pruned networks part on, from predictions alone (NumPy).

Hooker et al. 2019 ("What do compressed deep neural networks forget?") take the networks of all seeds together: an image
is an exemplar where the most frequent prediction differs. With one seed that is where the prediction changes.
"""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike


def modal_prediction(predictions: ArrayLike) -> np.ndarray:
    """Returns the class that most of the networks `[networks, images]` predict for each image; of equals the first.

    >>> modal_prediction([[0, 1], [2, 1], [2, 0]])
    array([2, 1])
    """
    predictions = np.asarray(predictions)
    return np.argmax([(predictions == label).sum(axis=0) for label in range(predictions.max() + 1)], axis=0)


def exemplars_by_interest(dense: ArrayLike, pruned: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Returns the places of the exemplars, those first whose label the dense networks predict.

    `dense` and `pruned` are predictions `[networks, images]`, the numbers of networks may differ; `labels` `[images]`.

    >>> exemplars_by_interest([[0, 1, 1]], [[1, 1, 0]], [1, 1, 1])
    array([2, 0])
    """
    before, after = modal_prediction(dense), modal_prediction(pruned)
    places = np.flatnonzero(before != after)
    is_wrong = before[places] != np.asarray(labels)[places]
    return places[np.argsort(is_wrong, kind="stable")]


def in_turn(groups: Iterable[Sequence[int]]) -> list[int]:
    """Returns the members of several groups, one of each in turn, each once.

    >>> in_turn([[3, 1], [5], [1, 4]])
    [3, 5, 1, 4]
    """
    missing = object()
    turns = itertools.zip_longest(*groups, fillvalue=missing)
    return list(dict.fromkeys(int(each) for turn in turns for each in turn if each is not missing))
