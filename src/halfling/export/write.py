"""The export: a trained model's weights and tokenizer, in one folder that the engine runs."""

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import Field, model_validator

from halfling.bounds import Count
from halfling.engine.backends import MODULES
from halfling.engine.backends.native import WEIGHTS
from halfling.engine.exported import EXPORTED, FORMAT, BackendName, Exported, Precision, checksum_of
from halfling.errors import HalflingError
from halfling.exits.calibration import CALIBRATED, Calibration
from halfling.exits.policy import ExitPolicy
from halfling.export.check import agreement
from halfling.export.gate import Gate, GateSettings, summary
from halfling.export.int8 import inputs_of_layers
from halfling.export.native import write_native
from halfling.export.pieces import write_tokenizer
from halfling.export.probes import Probes
from halfling.export.sentences import sentences
from halfling.export.trained import Trained, load_trained
from halfling.export.web import write_web
from halfling.export.widen import passed
from halfling.files import TASK_SOURCES, sha256
from halfling.languages import plain_code, resolve, with_and_without_region
from halfling.models.classifier import read_checkpoint
from halfling.records import Counts, Progress, silent
from halfling.tasks.of_model import task_of
from halfling.tasks.task import Task
from halfling.training.trim import TrimSettings, trim

_ROUNDING = 1e-2
"""More than float32's rounding makes of any logit, and less than a wrong graph does."""


class ExportSettings(GateSettings):
    """Who shall run the model, and how exactly."""

    backends: tuple[BackendName | Literal["web"], ...] = Field(
        ("native",), min_length=1, description="native, torch or onnx; web: native, and a folder for browsers"
    )
    precision: Precision = Field("int8", description="of the linear layers; unsaid, int8 for native, else float32")

    languages: str | tuple[str, ...] | None = Field(
        None, description="cut the vocabulary to these languages' pieces, as trim does: sw,en"
    )
    max_pieces: Count | None = Field(None, gt=0, description="of them at most so many, the most used; no limit")

    @model_validator(mode="before")
    @classmethod
    def _float32_where_there_is_a_choice(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or "precision" in raw:
            return raw
        if not {"native", "web"} & {*raw.get("backends", ("native",))}:
            return {**raw, "precision": "float32"}
        return raw

    @model_validator(mode="after")
    def _backends_run_it(self) -> "ExportSettings":
        if self.precision == "int8" and "torch" in self.backends:
            raise ValueError("torch: runs float32 and bfloat16: export int8 for native or onnx")
        for name in ("native", "web"):
            if self.precision == "float32" and name in self.backends:
                raise ValueError(f"{name}: runs int8 only: export float32 for torch or onnx")
        if self.precision == "bfloat16" and self.backends != ("torch",):
            raise ValueError("bfloat16: only torch runs it: set backends=torch")
        return self


def export(
    *,
    settings: ExportSettings,
    model: Path,
    out: Path,
    policy: Path | None = None,
    task: Task | None = None,
    progress: Progress = silent,
) -> Counts:
    """Write a model, its tokenizer and its task as a folder that the engine runs, and compare their answers.

    What int8 costs is measured in every language that the task has dev data for, and stands in the folder's
    `engine.json`; where it is too much (`export.gate`), native gets layers whose activations have 16 bits.

    Args:
        model: A fine-tuned model's folder, plain or with exits.
        policy: A calibration's folder; the policy stored in the model when absent; without either nobody exits early.
        task: Data for the task that travels with the model, or for a model without one: its dev texts give int8's
            scales, and the agreement is theirs.

    Returns:
        Of int8 what it costs in each language, a line each (`says`). Else how each backend's answers to the task's dev
        texts compare with the model's own, exits off: the largest difference of any logit, the share of equal labels
        (of words, for a tagger), and how many texts that is. With `languages`, what `trim` returns besides. With `web`,
        the bytes of the folder for browsers.

    Raises:
        HalflingError: Something cannot be read, float32 does not say what torch says, int8 costs too much, or the
            engine cannot tokenize as transformers does.
    """
    _clear(out)  # a killed export's files would be counted among those that were written
    trained = load_trained(model, policy)
    if policy is not None:
        shutil.copyfile(policy / CALIBRATED, out / CALIBRATED)  # its curve: a service offers its other points
    try:
        if settings.languages is None:
            return _write(settings, model, trained, out, task, progress)
        with TemporaryDirectory() as place:
            trimming = TrimSettings(languages=settings.languages, max_pieces=settings.max_pieces)
            counts = trim(settings=trimming, model=model, out=Path(place), task=task, progress=progress)
            # The policy is the whole model's: no text that stays whole is answered otherwise.
            kept, said = _of_languages(trained, settings.languages, out / CALIBRATED)
            trained = replace(load_trained(Path(place), None), policy=trained.policy, policies=kept)
            counts |= _write(settings, Path(place), trained, out, task, progress)
            return counts | ({"says": [*counts.get("says", []), *said]} if said else {})
    except Exception:
        _clear(out)
        raise


def _of_languages(
    trained: Trained, languages: str | Sequence[str], calibrated: Path
) -> tuple[dict[str, ExitPolicy], list[str]]:
    """Return the sets of those languages that a vocabulary is cut to, the calibration cut to them too, and what to say.

    Others would exit by a promise that was made of text which this vocabulary cannot say.
    """
    named = {plain_code(code) for code in resolve(languages)}
    kept = {code: one for code, one in trained.policies.items() if named & {*with_and_without_region(code)}}
    gone, promised = [code for code in trained.policies if code not in kept], []
    if calibrated.is_file():
        whole = Calibration.read(calibrated)
        whole.model_copy(update={"languages": {code: whole.languages[code] for code in kept}}).write(calibrated)
        promised = [code for code in kept if whole.promised(code) is not None]
    says = [f"{', '.join(gone)}: none of --languages: get the default's thresholds"] if gone else []
    if promised:
        says.append(
            f"{', '.join(promised)}: what was promised is of the whole vocabulary: check it here with `halfling watch`"
        )
    return kept, says


def _write(
    settings: ExportSettings, model: Path, trained: Trained, out: Path, task: Task | None, progress: Progress
) -> Counts:
    wanted = {"native" if name == "web" else name for name in settings.backends}
    chosen = [name for name in MODULES if name in wanted]
    act = trained.network.config.hidden_act
    if act != "gelu" and chosen != ["torch"]:
        raise HalflingError(f"hidden_act {act}: native and onnx compute gelu only: export for torch")
    whole = task_of(model, task)
    examples = sentences(trained, whole)
    probes = Probes(trained.tokenizer, trained.kind, trained.shape.max_tokens, examples.texts)
    tokenizer = write_tokenizer(trained.tokenizer, model, out, probes)
    if tokenizer != "native" and "web" in settings.backends:
        raise HalflingError(
            f"{model}: its tokenizer is another than XLM-R's, and browsers have XLM-R's alone: export it for native"
        )
    weights = {name: weight.numpy() for name, weight in trained.network.state_dict().items()}
    embeddings = "roberta.embeddings."
    positions = weights[f"{embeddings}position_embeddings.weight"][trained.network.config.pad_token_id + 1 :]
    positions = positions + weights[f"{embeddings}token_type_embeddings.weight"][0]
    epsilon = trained.network.config.layer_norm_eps
    inputs = inputs_of_layers(trained, examples.ids) if "native" in chosen else {}

    def write_weights(wide_layers: tuple[int, ...]) -> None:
        progress(0, 1, "weights")
        write_native(
            out / WEIGHTS,
            trained.shape,
            weights,
            positions,
            inputs,
            epsilon=epsilon,
            by_token=trained.kind == "token",
            exit_layers=read_checkpoint(model).exit_layers,
            wide_layers=wide_layers,
        )

    if "native" in chosen:
        write_weights(())
    exported = Exported(
        format=FORMAT,
        kind=trained.kind,
        labels=trained.labels,
        shape=trained.shape,
        precision=settings.precision,
        policy=trained.policy,
        policies=trained.policies,
        tokenizer=tokenizer,
        backends=tuple(chosen),
        files={},
    )
    if "onnx" in chosen:
        from halfling.export.graph import SegmentGraph, write_segments

        (out / "onnx").mkdir()
        write_segments(out / "onnx", SegmentGraph(trained.shape, weights, positions, epsilon), exported, progress)
    if "torch" in chosen:
        left_out = shutil.ignore_patterns("manifest.json", "task*.json", "tokenizer*", "sentencepiece*")
        shutil.copytree(model, out / "torch", ignore=left_out, dirs_exist_ok=True)
    if settings.precision == "int8" and settings.max_int8_drop is not None:
        gate = Gate(trained, whole, settings, settings.max_int8_drop, progress)
        drops, wide = passed(gate, exported, out, write_weights, progress)
        exported = exported.model_copy(update={"int8": drops, "wide_layers": wide})
    written = (path for path in sorted(out.rglob("*")) if path.is_file() and path.name != TASK_SOURCES)
    files = {path.relative_to(out).as_posix(): sha256(path) for path in written}
    exported = exported.model_copy(update={"files": files})
    exported.model_copy(update={"checksum": checksum_of(exported)}).write(out / EXPORTED)
    whole.write(out)
    agreements = [agreement(trained, examples, out, backend) for backend in chosen]
    for one in agreements:
        off = one.largest_difference
        if not math.isfinite(off) or (settings.precision == "float32" and off > _ROUNDING):
            raise HalflingError(
                f"{one.backend}: logits differ by {off:.2g} from the trained model's: nothing was written"
            )
    web: Counts = {"web_bytes": write_web(out)} if "web" in settings.backends else {}
    if exported.int8 and settings.max_int8_drop is not None:  # the labels of 64 texts say less
        return web | summary(exported.int8, exported.wide_layers, settings.max_int8_drop)
    counts = web | {
        f"{one.backend}_{name}": value
        for one in agreements
        for name, value in one.model_dump(exclude={"backend"}).items()
    }
    if settings.precision == "int8":
        counts["says"] = ["what int8 costs was not measured, as max_int8_drop is null"]
    return counts


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
