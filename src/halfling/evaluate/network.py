"""A trained model as evaluation runs it: plain, or with exits and their calibrated threshold."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from halfling.calibrate import head_of
from halfling.cost.flops import flops
from halfling.errors import HalflingError
from halfling.models import EARLY_EXIT_MODELS
from halfling.models.folder import load_model
from halfling.models.shapes import shape_of
from halfling.records import Calibration, TaskName
from halfling.tasks import TASKS
from halfling.tasks.predict import Predictions


def load_network(task: TaskName, model: Path, policy: Path | None) -> PreTrainedModel:
    """Return the model, ready to answer, on a GPU when there is one.

    Args:
        task: What it was trained for.
        model: A fine-tuned model's folder, or with `policy` an early-exit model's.
        policy: A calibration's folder, whose `exit_policy.json` sets the threshold.

    Raises:
        HalflingError: A folder cannot be read, or the policy was made for other exits.
    """
    if policy is None:
        network = load_model(TASKS[task].model_class, model)
    else:
        calibration = Calibration.read(policy / "exit_policy.json")
        network = load_model(EARLY_EXIT_MODELS[task], model)
        chosen = calibration.policy
        if calibration.task != task or list(chosen.layers) != network.config.exit_layers:
            raise HalflingError(
                f"{policy}: its policy is for {calibration.task} with exits {list(chosen.layers)}, {model} is for "
                f"{task} with exits {network.config.exit_layers}: calibrate this model"
            )
        network.config.exit_threshold = chosen.threshold
        network.config.exit_token_pooling = chosen.token_pooling
    return network.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def mean_gflops(network: PreTrainedModel, task: TaskName, answers: Predictions) -> float:
    """Return the arithmetic of an answer in thousand millions of operations, the mean over `answers`.

    Real lengths, real exits, and every classifier that was computed; see `cost.flops` for what is counted.
    """
    # With threshold 0 the model skips its intermediate exits, so their arithmetic is not spent.
    early = getattr(network.config, "exit_threshold", 0.0) > 0
    head = head_of(task, tuple(network.config.exit_layers) if early else ())
    whole = flops(shape_of(network.config), answers.num_tokens, answers.exit_layers, head).total
    return whole / len(answers.num_tokens) / 1e9
