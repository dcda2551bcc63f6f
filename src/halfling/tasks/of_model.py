"""The task of a trained model: what travels with it, and the labels that it has."""

from pathlib import Path

from halfling.errors import HalflingError
from halfling.models.classifier import read_checkpoint
from halfling.tasks.examples import understood
from halfling.tasks.task import Task, read_task


def task_of(model: Path, given: Task | None = None) -> Task:
    """Return a trained model's task, its labels in the model's order.

    Args:
        model: A model's folder; without a task in it, whoever trained it, `given` says where data lie.
        given: Other data for the same task.

    Raises:
        HalflingError: Nobody says where data lie, or the model and its task or data have other labels.
    """
    own, checkpoint = read_task(model), read_checkpoint(model)
    if own is None and given is None:
        raise HalflingError(f"{model}: no task travels with it: name its data with --train and --dev")
    task = (own or given or Task()).with_sources(given)
    for name in ("kind", "labels") if own and given else ():
        said, its = getattr(given, name), getattr(own, name)
        if said is not None and its is not None and {*said} != {*its}:
            raise HalflingError(f"{model}: its task has {name} {its}, not {said}: leave --{name} out")
    if task.labels is not None and {*task.labels} != {*checkpoint.labels}:
        raise HalflingError(
            f"{model}: its labels are {', '.join(checkpoint.labels)}, not those of task {task.name}, "
            f"{', '.join(task.labels)}: name a model of this task"
        )
    if checkpoint.head == "token" and task.kind not in (None, "tagging"):
        raise HalflingError(f"{model}: a tagger, and task {task.name} is {task.kind}: name a model of this task")
    if checkpoint.head == "sequence" and task.kind == "tagging":
        raise HalflingError(f"{model}: classifies texts, and task {task.name} is tagging: name a model of this task")
    kind = "tagging" if checkpoint.head == "token" else task.kind
    return understood(task.model_copy(update={"kind": kind, "labels": checkpoint.labels}))
