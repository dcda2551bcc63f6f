"""A trained model as evaluation runs it: plain, or with exits and their calibrated threshold."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from halfling.calibrate import head_of
from halfling.cost.flops import flops
from halfling.errors import HalflingError
from halfling.exits.policy import Calibration, ExitPolicy
from halfling.models import EARLY_EXIT_MODELS
from halfling.models.early_exit import full_policy
from halfling.models.load import load_model, weights_sha256
from halfling.models.shapes import shape_of
from halfling.records import TaskName
from halfling.tasks import TASKS
from halfling.tasks.predict import Predictions


def load_network(task: TaskName, model: Path, policy: Path | None) -> tuple[PreTrainedModel, ExitPolicy | None]:
    """Return the model, ready to answer, on a GPU when there is one, and the policy by which it answers.

    Args:
        task: What it was trained for.
        model: A fine-tuned model's folder, or with `policy` an early-exit model's.
        policy: A calibration's folder, whose `exit_policy.json` says when inputs leave.

    Raises:
        HalflingError: A folder cannot be read, or the policy was made for another model.
    """
    chosen = None
    if policy is None:
        network = load_model(TASKS[task].model_class, model)
    else:
        calibration = Calibration.read(policy / "exit_policy.json")
        network = load_model(EARLY_EXIT_MODELS[task], model)
        chosen = calibration.policy
        if calibration.task != task:
            raise HalflingError(
                f"{policy}: its policy is for {calibration.task}, not {task}, {model}: calibrate this model"
            )
        if chosen.model not in (None, weights_sha256(model)):
            raise HalflingError(f"{policy}: its policy is for other weights than {model} has: calibrate this model")
        try:
            full_policy(chosen.model_dump(mode="json"), network.config.exit_layers)
        except ValueError as error:
            raise HalflingError(f"{policy}: {error}, {model}: calibrate this model") from error
    return network.to("cuda" if torch.cuda.is_available() else "cpu").eval(), chosen


def mean_gflops(
    network: PreTrainedModel, task: TaskName, answers: Predictions, policy: ExitPolicy | None = None
) -> float:
    """Return the arithmetic of an answer in thousand millions of operations, the mean over `answers`.

    Real lengths, real exits, and every classifier that was computed; see `cost.flops` for what is counted.
    """
    # Exits that are not in use are skipped, so their arithmetic is not spent.
    head = head_of(task, policy.layers if policy and policy.is_early else ())
    whole = flops(shape_of(network.config), answers.num_tokens, answers.exit_layers, head).total
    return whole / len(answers.num_tokens) / 1e9
