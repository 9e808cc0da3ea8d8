"""The loop over epochs and steps: dispatches the steps, watches the loss, reports, and saves."""

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jaxtyping import PyTree

from jaxprune import data, models, pruning, randomness
from jaxprune.devices import placement
from jaxprune.training.interrupts import Interrupted, terminations
from jaxprune.training.options import Options
from jaxprune.training.records import EpochRecord
from jaxprune.training.resume import Checkpoints, Position, checksum
from jaxprune.training.state import Tally, initial_state, is_finite, own_copy, start_epoch, trained
from jaxprune.training.steps import Recipe, epoch_order, train_steps
from jaxprune.training.validation import BATCH_SIZE as VALIDATION_BATCH_SIZE
from jaxprune.training.validation import validate


class Training:
    """One training, of one model or of a stack of them; holds what its parts share.

    With `stacked`, the leaves of classifier, key and masks have a leading model axis. With an `updater`, the masks are
    its own. Whatever JAX's settings are, its defaults hold for all that is drawn and computed here.
    """

    @randomness.default_settings()
    def __init__(
        self,
        classifier: models.Classifier,
        dataset: data.Dataset | data.StreamedDataset,
        *,
        optimizer,
        epochs: int,
        key,
        masks: PyTree | None,
        options: Options,
        updater=None,
        stacked: bool = False,
    ):
        mesh = None if options.devices is None else placement.data_mesh(options.devices)
        self.place = jax.device_put if mesh is None else functools.partial(placement.replicate, mesh=mesh)
        self.dataset, self.epochs, self.options, self.stacked = dataset, epochs, options, stacked
        self.is_streamed = isinstance(dataset, data.StreamedDataset)
        self.batch_size = min(options.batch_size, len(dataset))
        self.steps_per_epoch = len(dataset) // self.batch_size
        self.updater = updater
        if updater is not None:
            optimizer = pruning.pruned_optimizer(updater, optimizer)
        self.classifier, self.key, self.masks = self.place((classifier, key, masks))
        self.recipe = Recipe(
            optimizer=optimizer,
            forward_params=None if updater is None else updater.pre_forward_update,
            augment=options.augment,
            batch_size=self.batch_size,
            label_smoothing=options.label_smoothing,
            mixup=options.mixup,
            ema=options.ema,
            mesh=mesh,
        )
        self.state = initial_state(
            self.classifier.params,
            self.classifier.batch_stats,
            self.masks,
            optimizer=optimizer,
            hold=None if updater is None else updater.post_gradient_update,
            averaged=options.ema is not None,
            stacked=stacked,
        )
        self.position = Position(1, 0, [])
        self.has_compiled = False
        self.checkpoints: Checkpoints | None = None

    def whole(self, on_epoch: Callable[[list[EpochRecord]], None]) -> models.Classifier:
        """Trains, from the last checkpoint if there is one, and returns the result.

        `on_epoch` gets the records of each epoch, one per model.
        """
        with contextlib.ExitStack() as stack:
            if self.options.checkpoint_dir is not None:
                self.checkpoints = stack.enter_context(contextlib.closing(self._open_checkpoints()))
                self._resume()
            self.terminated = stack.enter_context(terminations(active=self.checkpoints is not None))
            # Shapes only: the forward pass is static, the weights travel in the state.
            self.frozen = models.in_precision(self.classifier, self.options.precision).replace(
                params=None, batch_stats=None
            )
            if not self.is_streamed:
                self.images, self.labels = self.place((self.dataset.images, self.dataset.labels))
            validation = self.options.validation
            self.held_out = None if validation is None else self.place((validation.images, validation.labels))
            while self.position.epoch <= self.epochs:
                on_epoch(self._epoch())
                self._stop_if_terminated()
        return self._trained()

    @randomness.default_settings()
    def masks_now(self, params: PyTree) -> PyTree:
        """Returns the masks of the updater, for parameters that were trained with it."""
        return pruning.current_masks(self.updater, params, self.state.optimizer_state)

    @randomness.default_settings()
    def _trained(self) -> models.Classifier:
        """Returns the classifier as it is now."""
        found = trained(self.classifier, self.state)
        if self.updater is None:
            return found
        return found.replace(params=pruning.mask_params(found.params, self.masks_now(found.params)))

    @randomness.default_settings()
    def _epoch(self) -> list[EpochRecord]:
        """Takes the epoch's remaining steps, saves, and returns its records."""
        epoch, step, finished = self.position
        # A streamed batch is all that a step sees: the slice of an order that is one batch long is all of it.
        num_images = self.batch_size if self.is_streamed else len(self.dataset)
        epoch_key, order = epoch_order(self.key, epoch, num_images=num_images, stacked=self.stacked)
        per_dispatch = 1 if self.is_streamed else self.options.resolved_steps_per_dispatch()
        inputs = (
            self._streamed_inputs(epoch, step) if self.is_streamed else itertools.repeat((self.images, self.labels))
        )
        clock, timed_from = time.perf_counter(), step
        while step < self.steps_per_epoch:
            count = min(per_dispatch, self._next_stop(step) - step)
            self.state = train_steps(
                self.state,
                self.frozen,
                self.masks,
                *next(inputs),
                order,
                epoch_key,
                np.int32(count),
                recipe=self.recipe,
                looped=per_dispatch > 1,
                stacked=self.stacked,
            )
            step += count
            if not self.has_compiled:
                self.has_compiled = True
                if step < self.steps_per_epoch:
                    jax.block_until_ready(self.state.tally)
                    clock, timed_from = time.perf_counter(), step
            if step < self.steps_per_epoch and self.checkpoints is not None:
                self.position = Position(epoch, step, finished)
                self._stop_if_terminated()
                if self._is_due(step):
                    self._save()
        tally = self._checked_tally()
        seconds = time.perf_counter() - clock
        records = self._records(epoch, tally, (step - timed_from) * self.batch_size / seconds)
        self.state = start_epoch(self.state)
        self.position = Position(epoch + 1, 0, finished + self._rows(records))
        if self.checkpoints is not None:
            self._save()
        return records

    def _streamed_inputs(self, epoch: int, step: int) -> Iterator[tuple]:
        """Yields the images and labels of the epoch's batches, from the given step on."""
        seed = checksum(self.key)
        for batch in self.dataset.batches(batch_size=self.batch_size, seed=seed, epoch=epoch, start=step):
            placed = self.place((batch.images, batch.labels))
            # One batch is sent while the devices compute the one before; more would pile up there.
            jax.block_until_ready(self.state.tally)
            yield placed

    def _records(self, epoch: int, tally: Tally, images_per_second: float) -> list[EpochRecord]:
        images = self.steps_per_epoch * self.batch_size
        seconds_left = (self.epochs - epoch) * images / images_per_second
        accuracy, nll = self._validate()
        return [
            EpochRecord(
                epoch,
                self.epochs,
                float(loss_sum) / self.steps_per_epoch,
                int(num_correct) / images,
                images_per_second,
                seconds_left,
                *held_out,
            )
            for loss_sum, num_correct, *held_out in zip(
                np.atleast_1d(tally.loss_sum), np.atleast_1d(tally.num_correct), accuracy, nll, strict=True
            )
        ]

    def _validate(self) -> tuple[list, list]:
        """Returns accuracy and negative log-likelihood of each model, or of each None."""
        if self.held_out is None:
            nothing = [None] * self.num_models
            return nothing, nothing
        on_cpu = self.recipe.mesh is None and jax.default_backend() == "cpu"
        measured = validate(
            self._trained(),
            *self.held_out,
            micro_batch=models.CPU_MICRO_BATCH if on_cpu else VALIDATION_BATCH_SIZE,
            mesh=self.recipe.mesh,
            stacked=self.stacked,
        )
        accuracy, nll = (np.atleast_1d(values).tolist() for values in jax.device_get(measured))
        return accuracy, nll

    @property
    def num_models(self) -> int:
        """How many models are trained at once."""
        return len(self.classifier.mean) if self.stacked else 1

    def _rows(self, records: list[EpochRecord]) -> list[dict]:
        """Returns the records as JSON values; those of a stack say which model they are of."""
        return [({"model": k} if self.stacked else {}) | record._asdict() for k, record in enumerate(records)]

    def _checked_tally(self) -> Tally:
        """Returns the tally on the host, after all steps dispatched so far.

        Raises:
          FloatingPointError: a loss, a parameter or a batch statistic is not finite.
        """
        tally, finite = jax.device_get((self.state.tally, is_finite(self.state, stacked=self.stacked)))
        bad, (params_finite, stats_finite) = np.atleast_1d(tally.first_bad_step), map(np.atleast_1d, finite)
        broken = np.flatnonzero((bad > 0) | ~params_finite | ~stats_finite)
        if not len(broken):
            return tally
        model, epoch = int(broken[0]), self.position.epoch
        name = self.classifier.name + (f" (model {model} of 0..{self.num_models - 1})" if self.stacked else "")
        if bad[model]:
            what = f"the training loss of {name} became {np.atleast_1d(tally.loss_sum)[model]}"
            step = bad[model]
        else:
            part = "batch statistic" if params_finite[model] else "parameter"
            what, step = f"a {part} of {name} became infinite or nan", np.max(tally.step)
        kept = ""
        if self.checkpoints is not None:
            self.checkpoints.wait()
            kept = f"; the last good checkpoint is {self.checkpoints.last_good or 'none yet'}"
        raise FloatingPointError(
            f"{what} in epoch {epoch} of {self.epochs}; lower the learning rate "
            f"(step {step} of {self.steps_per_epoch} in that epoch){kept}"
        )

    def _open_checkpoints(self) -> Checkpoints:
        return Checkpoints(
            self.options.checkpoint_dir,
            self._description(),
            steps_per_epoch=self.steps_per_epoch,
            kept=self.options.checkpoints_kept,
        )

    def _resume(self) -> None:
        restored = self.checkpoints.restore(self.state)
        if restored is None:
            return
        state, self.position = restored
        if self.position.epoch - (self.position.step == 0) > self.epochs:
            raise ValueError(
                f"{self.checkpoints.last_good} is in epoch {self.position.epoch}, beyond epochs={self.epochs}; "
                f"give at least as many epochs, or another checkpoint_dir"
            )
        self.state = own_copy(self.place(state))

    def _description(self) -> dict:
        """Returns what makes this training another one than others, for its checkpoints."""
        options, dataset, start = self.options, self.dataset, self.classifier
        moving = {}
        if self.updater is not None:
            begun = self.state.optimizer_state
            moving["updater"] = type(self.updater).__name__
            moving["updater's masks"] = checksum((begun.masks, begun.target_sparsities))
        return moving | {
            "model": start.name,
            "starting weights": checksum((start.params, start.batch_stats, start.mean, start.std)),
            "masks": checksum(self.masks),
            "data set": f"{dataset.name} ({dataset.split}), {len(dataset)} images",
            "images and labels": "streamed" if self.is_streamed else checksum((dataset.images, dataset.labels)),
            "key": np.asarray(jax.random.key_data(self.key)).tolist(),
            "batch_size": self.batch_size,
            "augment": _name(options.augment),
            "label_smoothing": options.label_smoothing,
            "mixup": options.mixup,
            "ema": options.ema,
            "compute_dtype": options.precision or "float32",  # as checkpoints of earlier releases say it
        }

    def _next_stop(self, step: int) -> int:
        """Returns the step at which the epoch ends or a checkpoint is due, whichever is first."""
        every = self.options.checkpoint_every
        if every is None:
            return self.steps_per_epoch
        before = (self.position.epoch - 1) * self.steps_per_epoch
        return min(self.steps_per_epoch, (before + step) // every * every + every - before)

    def _is_due(self, step: int) -> bool:
        every = self.options.checkpoint_every
        return every is not None and ((self.position.epoch - 1) * self.steps_per_epoch + step) % every == 0

    def _save(self) -> None:
        # Never a state that training cannot go on from.
        self._checked_tally()
        self.checkpoints.save(self.state, self.position)

    def _stop_if_terminated(self) -> None:
        if self.terminated.is_set():
            self._save()
            self.checkpoints.wait()
            raise Interrupted(self.checkpoints.last_good)


def _name(augment) -> str:
    """Returns a name that is the same in every process, unlike most `repr`s."""
    if isinstance(augment, functools.partial):
        return f"{_name(augment.func)}{augment.args}{augment.keywords}"
    return getattr(augment, "__qualname__", type(augment).__name__)
