"""A trained model made ready to be given away: half the bytes, with its tokenizer and its card."""

import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from halfling import json_text
from halfling.errors import HalflingError
from halfling.exits.calibration import Calibration
from halfling.files import MANIFEST, read_text, sha256, write_json, write_text
from halfling.records import Counts, Manifest, Progress, Settings, silent
from halfling.report.cards import PIPELINES, card_text
from halfling.report.gather import CALIBRATION_FILE, gather

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_BESIDE = ("tokenizer.json", "tokenizer_config.json")
_LONGEST_NOTES = 2**20
_MODELLING = "modeling_early_exit"  # transformers' way to name such a file


class PublishSettings(Settings):
    """How a model is presented."""

    title: str = Field(description="heading of the card")
    licence: str = Field("cc-by-sa-4.0", description="of the weights, as the Hugging Face hub names it")
    base_model: str | None = Field(None, description="hub id of the model that it was made from")
    precision: Literal["float16", "float32"] = Field("float16", description="of the weights on disk")


def publish(
    *,
    settings: PublishSettings,
    model: Path,
    out: Path,
    notes: Path | None = None,
    policy: Path | None = None,
    progress: Progress = silent,
    **measured: Path,
) -> Counts:
    """Write weights, configuration, tokenizer and README.md, which `from_pretrained` loads.

    Beside an early-exit model lies the file that defines it: `trust_remote_code=True` loads it without halfling.

    Args:
        model: A masked language model, a fine-tuned model or an early-exit model that a stage wrote.
        notes: A Markdown file on data and licences, taken into the card as it is.
        policy: A calibration's folder, whose policy an early-exit model then follows by default.
        measured: Folders of `quality` and `masked-lm`.

    Returns:
        The bytes of the weights and of the whole folder.

    Raises:
        HalflingError: The model, its stage's manifest, its policy or what was measured cannot be read.
    """
    missing = [name for name in (WEIGHTS, CONFIG, *_BESIDE) if not (model / name).is_file()]
    if missing:
        raise HalflingError(f"{model}: holds no {missing[0]}: name the folder of a teacher or of a student's epoch")
    stage = next((folder for folder in (model, model.parent) if (folder / MANIFEST).is_file()), None)
    if stage is None:
        raise HalflingError(f"{model}: no {MANIFEST} here or one folder up: name a folder that halfling made")
    found = gather(measured)
    # Of the model as it is here: its exports have answers of their own.
    qualities = [line for line in found.qualities if line.runtime == "pytorch"]
    if len(names := sorted({line.model for line in qualities})) > 1:
        raise HalflingError(f"publish: what was measured is of {', '.join(names)}: name folders of one model alone")
    calibration = _calibration(model, policy) if policy is not None else None
    config = _config(model, settings, calibration)
    progress(0, 2, WEIGHTS)
    _write_weights(model / WEIGHTS, out / WEIGHTS, settings.precision)
    for name in (*_BESIDE, "task.json"):
        if (model / name).is_file():
            shutil.copyfile(model / name, out / name)
    if "auto_map" in config:
        # Read as a file: to import it would take torch.
        write_text(out / f"{_MODELLING}.py", files("halfling").joinpath("models", "early_exit.py").read_text("utf-8"))
    write_json(out / CONFIG, config)
    progress(1, 2, "README.md")
    text = card_text(
        title=settings.title,
        licence=settings.licence,
        base_model=settings.base_model,
        notes=read_text(notes, _LONGEST_NOTES) if notes else "",
        config=config,
        manifest=Manifest.read(stage / MANIFEST),
        qualities=qualities,
        losses=found.masked_losses,
        int8_drops=found.int8_drops,
    )
    write_text(out / "README.md", text)
    progress(2, 2, "")
    sets = ", ".join(calibration.languages) if calibration else ""
    left_out = (
        f"the model follows the default policy: the sets of {sets} stay behind: calibrate what is published for its own"
        if sets
        else ""
    )
    return {
        "weights_bytes": (out / WEIGHTS).stat().st_size,
        "bytes": sum(path.stat().st_size for path in out.iterdir() if path.is_file()),
        **({"says": [left_out]} if left_out else {}),
    }


def _calibration(model: Path, policy: Path) -> Calibration:
    """Return the calibration of a folder.

    Raises:
        HalflingError: It was made for another model.
    """
    if policy.is_file():
        raise HalflingError(f"{policy}: is a file: name the folder that it lies in")
    found = Calibration.read(policy / CALIBRATION_FILE)
    exits, weights = json_text.read(model / CONFIG).get("exit_layers") or [0], sha256(model / WEIGHTS)
    for one in (found.policy, *found.policies.values()):
        fits = {*one.layers} <= {*exits} and one.layers[-1] == exits[-1]
        if not fits or one.model not in (None, weights):
            raise HalflingError(f"{policy}: its policy was made for another model than {model}: calibrate this model")
    return found


def _config(model: Path, settings: PublishSettings, calibration: Calibration | None) -> dict[str, Any]:
    """Return the configuration to publish."""
    config = json_text.read(model / CONFIG) | {"dtype": settings.precision}
    name = (config.get("architectures") or ["a model of no name"])[0]
    kind = next((kind for kind in PIPELINES if name.endswith(kind)), None)
    if kind is None:
        raise HalflingError(f"{model}: {name} is none of {', '.join(PIPELINES)}: name a model that halfling made")
    exits = config.get("exit_layers")
    if exits:
        own = name.removesuffix(kind)
        config["auto_map"] = {
            "AutoConfig": f"{_MODELLING}.{own}Config",
            f"AutoModel{kind}": f"{_MODELLING}.{name}",
        }
    if calibration is not None:
        # Published weights are others, rounded: they have no hash that it could name.
        config["exit_policy"] = calibration.policy.model_dump(mode="json", exclude={"model"})
    return config


def _write_weights(source: Path, target: Path, precision: str) -> None:
    try:
        with safe_open(source, framework="numpy") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
    except (SafetensorError, OSError) as error:
        raise HalflingError(f"{source}: cannot be read ({error}): make the model again") from error
    largest = float(np.max([np.abs(weight).max(initial=0) for weight in weights.values()]))
    if not np.isfinite(largest):
        raise HalflingError(f"{source}: holds weights that are no numbers: the training diverged, nothing to publish")
    if precision == "float16" and largest > float(np.finfo(np.float16).max):
        raise HalflingError(f"{source}: holds {largest:g}, more than float16 can: publish with precision=float32")
    # `pt` is what transformers asks of a file's metadata.
    save_file({name: weight.astype(precision) for name, weight in weights.items()}, target, metadata={"format": "pt"})
    target.chmod(0o644)  # the library writes for its owner alone
