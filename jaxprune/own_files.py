"""Orbax checkpointers of this process alone: of several processes, process 0 saves and each reads when it likes.

Orbax by itself takes a checkpoint for the common work of all processes and waits for them. Other processes than 0 must
not save: orbax 0.11 then leaves folders without a manifest.
"""

import jax


def handler(*, arrays: str, json: str):
    """Returns the orbax handler of a checkpoint of two items of these names, host arrays and JSON values."""
    import orbax.checkpoint as ocp  # half a second that a run without checkpoints does not need

    alone = {"multiprocessing_options": _alone()}
    items = {arrays: ocp.StandardCheckpointHandler(**alone), json: ocp.JsonCheckpointHandler(**alone)}
    return ocp.CompositeCheckpointHandler(composite_options=ocp.CompositeOptions(**alone), **items)


def checkpointer(handler):
    """Returns a synchronous checkpointer, a context manager."""
    import orbax.checkpoint as ocp

    return ocp.Checkpointer(handler, multiprocessing_options=_alone())


def background_checkpointer(handler):
    """Returns a checkpointer that writes in the background."""
    import orbax.checkpoint as ocp

    return ocp.AsyncCheckpointer(handler, multiprocessing_options=_alone())


def _alone():
    import orbax.checkpoint as ocp

    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process{index}"
    )
