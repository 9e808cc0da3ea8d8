"""Which images of a finished run its report shows, and what the networks saw of them: `images.npz`."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from etils import epath

from jaxprune import corruptions, data, evaluation, metrics, names
from jaxprune.results import images, outputs, rows
from jaxprune.study.configuration import StudyConfig
from jaxprune.study.inputs import key_of

GALLERY_IMAGES, GALLERY_SETS = 4, 7


def write_images(config: StudyConfig, out: epath.Path, test: data.Dataset, frost_textures) -> None:
    """Writes the exemplars and the gallery of a finished run, unless intact ones are there or no outputs were kept."""
    if _are_there(out) or not config.evaluation.keep_examples:
        return
    measured = rows.read(out)
    index = exemplars(measured, out)[: images.MAX_EXEMPLARS]
    gallery = {
        (place, name): _pixels(config, test, place, name, frost_textures)
        for place in index[:GALLERY_IMAGES]
        for name in gallery_sets(measured)
    }
    images.write(out, {place: test.images[place] for place in index}, gallery, test.class_names)


def exemplars(measured: Sequence[rows.Row], out: epath.Path) -> list[int]:
    """Returns the places of images that dense and pruned networks, each taken together over seeds, predict differently.

    They are taken from the most pruned networks of each method and arm in turn, those first that the dense networks had
    right. None where the run kept no outputs per image.
    """
    clean = [row for row in measured if row["corruption"] == names.CLEAN]
    groups = []
    for arm in dict.fromkeys(row["arm"] for row in clean):
        of_arm = [row for row in clean if row["arm"] == arm]
        pruned = [row for row in of_arm if row["method"] not in (names.DENSE, *names.CONTROLS.values())]
        stage = next((each for each in names.MAIN_STAGES if any(row["stage"] == each for row in pruned)), None)
        pruned = [row for row in pruned if row["stage"] == stage]
        dense = [row for row in of_arm if row["method"] == names.DENSE]
        same_stage = [row for row in dense if row["stage"] == stage]
        as_trained = [row for row in dense if row["stage"] == names.STAGE_DENSE]
        baseline = _outputs_by_seed(same_stage or as_trained, out)
        # As the report shows them: methods that prune weights come first, each kind in the order of the alphabet.
        methods = {(names.GRANULARITIES.index(row["granularity"]), row["method"]) for row in pruned}
        for _, method in sorted(methods):
            of_method = [row for row in pruned if row["method"] == method]
            groups.append(_of_most_pruned(of_method, baseline, out))
    return _in_turn(groups)


def gallery_sets(measured: Sequence[rows.Row]) -> list[str]:
    """Returns the test sets of the gallery, `<corruption>-<severity>`: clean, and some corruptions at their worst."""
    worst = max(row["severity"] for row in measured)
    corrupted = sorted({row["corruption"] for row in measured if row["severity"] == worst} - {names.CLEAN})
    step = max(1, -(-len(corrupted) // (GALLERY_SETS - 1)))
    return [f"{names.CLEAN}-{names.CLEAN_SEVERITY}", *(f"{name}-{worst}" for name in corrupted[::step])]


def _outputs_by_seed(of_one: Iterable[rows.Row], out: epath.Path) -> dict[int, outputs.Outputs]:
    found = {row["seed"]: outputs.read_row(out, row) for row in of_one}
    return {seed: each for seed, each in found.items() if each is not None}


def _of_most_pruned(of_method: Sequence[rows.Row], baseline: dict[int, outputs.Outputs], out: epath.Path) -> list[int]:
    """Returns the exemplars of the highest sparsity of one method of which outputs were kept."""
    for sparsity in sorted({row["sparsity"] for row in of_method}, reverse=True):
        kept = _outputs_by_seed((row for row in of_method if row["sparsity"] == sparsity), out)
        seeds = [seed for seed in baseline if seed in kept]
        if seeds:
            return _by_interest([baseline[seed] for seed in seeds], [kept[seed] for seed in seeds])
    return []


def _by_interest(dense: Sequence[outputs.Outputs], pruned: Sequence[outputs.Outputs]) -> list[int]:
    """Returns the places of the images whose modal predictions differ, those first that the dense ones have right."""
    before, after = (metrics.modal_prediction(np.stack([each.prediction for each in both])) for both in (dense, pruned))
    places = np.flatnonzero(before != after)
    is_wrong = before[places] != dense[0].labels[places]
    return places[np.argsort(is_wrong, kind="stable")].tolist()


def _in_turn(groups: Iterable[Sequence[int]]) -> list[int]:
    """Returns the members of several groups, one of each in turn, each once.

    >>> _in_turn([[3, 1], [5], [1, 4]])
    [3, 5, 1, 4]
    """
    missing = object()
    turns = itertools.zip_longest(*groups, fillvalue=missing)
    return list(dict.fromkeys(each for turn in turns for each in turn if each is not missing))


def _are_there(out: epath.Path) -> bool:
    try:
        return images.read(out) != images.Pictures({}, {}, ())
    except ValueError:
        return False  # damaged; they follow from the rows and the test images, and are written again


def _pixels(config: StudyConfig, test: data.Dataset, index: int, test_set: str, frost_textures) -> np.ndarray:
    """Returns one image as the networks saw it in a test set, `<corruption>-<severity>`."""
    name, _, severity = test_set.rpartition("-")
    if name == names.CLEAN:
        return test.images[index]
    if config.evaluation.corrupted is not None:
        ((_, read),) = evaluation.folder_test_sets(config.evaluation.corrupted, [name], [int(severity)])
        return read().images[index]
    key = evaluation.test_set_key(key_of(config.evaluation.seed, "corruptions"), name, int(severity))
    image = test.images[index : index + 1]
    options = {"name": name, "severity": int(severity), "first_index": index, "frost_textures": frost_textures}
    return np.asarray(corruptions.corrupt(key, image, **options))[0]
