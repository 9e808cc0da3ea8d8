"""Corrupt, classify, measure: several classifiers on the clean and the corrupted versions of one data set."""

from jaxprune.evaluation._arguments import MODEL_AXES
from jaxprune.evaluation._evaluate import BATCH_SIZE, evaluate
from jaxprune.evaluation.examples import EXAMPLE_DTYPES, Examples, KeepExamples, examples_path, load_examples
from jaxprune.evaluation.plan import CLEAN, SEVERITIES, check_corruptions, folder_test_sets, test_set_key

__all__ = [
    "BATCH_SIZE",
    "CLEAN",
    "EXAMPLE_DTYPES",
    "MODEL_AXES",
    "SEVERITIES",
    "Examples",
    "KeepExamples",
    "check_corruptions",
    "evaluate",
    "examples_path",
    "folder_test_sets",
    "load_examples",
    "test_set_key",
]
