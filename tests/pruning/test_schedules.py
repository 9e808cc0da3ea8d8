"""Schedules at their edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune.pruning import NoUpdateSchedule, OneShotSchedule, PeriodicSchedule, PolynomialSchedule

TARGETS = {"a": 0.8, "b": None, "c": 0.5}


def update_steps(schedule, last=12):
    return [step for step in range(last + 1) if schedule.is_mask_update_iter(step)]


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (NoUpdateSchedule(), []),
        (OneShotSchedule(target_step=3), [3]),
        (OneShotSchedule(target_step=0), [0]),
        (PeriodicSchedule(update_freq=3, update_start_step=2, update_end_step=9), [3, 6, 9]),
        (PeriodicSchedule(update_freq=5, update_start_step=0, update_end_step=None), [0, 5, 10]),
        (PeriodicSchedule(update_freq=5, update_start_step=6, update_end_step=9), []),
        (PolynomialSchedule(update_freq=4, update_start_step=4, update_end_step=8), [4, 8]),
    ],
    ids=str,
)
def test_update_steps(schedule, steps):
    assert update_steps(schedule) == steps
    traced = jax.jit(jax.vmap(lambda step: jnp.asarray(schedule.is_mask_update_iter(step))))(jnp.arange(13))
    assert np.flatnonzero(traced).tolist() == steps


def test_no_step_is_no_update_step():
    assert not PeriodicSchedule(1, 0, None).is_mask_update_iter(None)


@pytest.mark.parametrize("schedule", [NoUpdateSchedule(), OneShotSchedule(3), PeriodicSchedule(1, 0, 9)], ids=str)
def test_constant_schedules_give_the_targets(schedule):
    assert schedule.get_sparsity_at_step(TARGETS, 5) == TARGETS


@pytest.mark.parametrize("power", [1, 3])
def test_polynomial_growth(power):
    schedule = PolynomialSchedule(update_freq=1, update_start_step=2, update_end_step=6, power=power)
    progress = {0: 0.0, 1: 0.0, 2: 0.25, 4: 0.75, 5: 1.0, 6: 1.0, 100: 1.0}
    for step, p in progress.items():
        grown = schedule.get_sparsity_at_step(TARGETS, jnp.asarray(step))
        assert grown["b"] is None
        assert float(grown["a"]) == pytest.approx(0.8 * (1 - (1 - p) ** power), abs=1e-6)
        assert float(grown["c"]) == pytest.approx(0.5 * (1 - (1 - p) ** power), abs=1e-6)


def test_polynomial_growth_in_no_time_and_in_negative_time():
    assert PolynomialSchedule(1, 5, 5).get_sparsity_at_step(TARGETS, 0) == TARGETS
    for end in (4, None):
        with pytest.raises(ValueError, match=f"start 5 and end {end}"):
            PolynomialSchedule(1, 5, end).get_sparsity_at_step(TARGETS, 5)
