"""The problems of values are found, counted and named."""

import numpy as np
import pytest

from jaxprune import metrics


def test_good_inputs_pass(oracles):
    case = oracles.problem(50)
    assert metrics.check_inputs(case.probs, case.labels) is None
    assert metrics.check_inputs(case.logits, case.labels, from_logits=True) is None
    assert metrics.check_inputs(case.probs.astype(np.float16), case.labels) is None


def test_rows_of_weight_zero_may_hold_anything(oracles):
    case = oracles.problem(50)
    kept = case.mask > 0
    probs = np.where(kept[:, None], case.probs, np.nan)
    assert metrics.check_inputs(probs, np.where(kept, case.labels, -1), weights=case.mask) is None


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda c: c.probs.__setitem__((3, 1), np.nan), r"1 of 60 rows have NaN or infinite outputs \(first: row 3"),
        (lambda c: c.probs.__setitem__(slice(5, 7), 0.5), r"2 of 60 rows .* do not sum to 1 \(first: row 5"),
        (lambda c: c.labels.__setitem__(2, 5), r"labels outside 0 \.\.\. 4 \(first: row 2, label 5\); count classes"),
        (lambda c: c.labels.__setitem__(2, -1), r"labels outside 0 \.\.\. 4"),
        (lambda c: c.weights.__setitem__(9, -1), r"negative weights \(first: row 9"),
        (lambda c: c.weights.__setitem__(9, np.nan), r"undefined weights \(first: row 9, nan\)"),
        (lambda c: c.probs.__setitem__(slice(None), c.logits), r"outside \[0, 1\].*pass from_logits=True"),
    ],
)
def test_problems_are_named(oracles, break_it, message):
    case = oracles.problem(50)
    case.weights[:] = 1
    break_it(case)
    with pytest.raises(ValueError, match=message):
        metrics.check_inputs(case.probs, case.labels, weights=case.weights)


def test_all_problems_are_named_at_once(oracles):
    case = oracles.problem(50)
    case.probs[0], case.labels[1] = np.nan, 7
    with pytest.raises(ValueError, match=r"NaN.*labels outside"):
        metrics.check_inputs(case.probs, case.labels)
