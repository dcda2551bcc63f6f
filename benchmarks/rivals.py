"""What a user would otherwise deploy: each alternative as a function from token ids to logits, in its best setting.

Each takes sequences and returns, like our engine, the logits of the tokens whose answers are wanted. How a batch is
cut into groups of like length, and to what multiple a length is padded, is each one's own `Setting`: `best_setting`
tries them. Nothing is imported before it is needed: benchmarks/resident.py measures processes that hold one of them.
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from halfling.engine import Encoded

THREADS = 2
PAD = 1  # XLM-R's
Padded = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Ids and attention mask, both [batch, tokens], to logits, [batch, classes] or [batch, tokens, classes]."""


@dataclass(frozen=True)
class Setting:
    """How a rival's batches are padded: at most `group` sequences of like length, to a multiple of `multiple`."""

    group: int = 32
    multiple: int = 1


SETTINGS = [Setting(group, multiple) for group in (32, 8) for multiple in (1, 8)]


class Rival:
    """An alternative that pads."""

    def __init__(self, padded: Padded, setting: Setting = SETTINGS[0]) -> None:
        self.padded, self.setting = padded, setting

    def __call__(self, sequences: Sequence[Encoded], leave_after: Sequence[int] = ()) -> list[np.ndarray]:
        """Return the logits of each sequence's picked tokens, [picked, classes]; whoever knows no exits takes none."""
        order = sorted(range(len(sequences)), key=lambda n: len(sequences[n].ids))
        answers: dict[int, np.ndarray] = {}
        for start in range(0, len(order), self.setting.group):
            group = order[start : start + self.setting.group]
            longest = max(len(sequences[n].ids) for n in group)
            tokens = -(-longest // self.setting.multiple) * self.setting.multiple
            ids = np.full((len(group), tokens), PAD, np.int64)
            for row, number in enumerate(group):
                ids[row, : len(sequences[number].ids)] = sequences[number].ids
            logits = self.padded(ids, (ids != PAD).astype(np.int64))
            for row, number in enumerate(group):
                picked = sequences[number].picked
                # A copy either way: a rival's next call may compute into the same array.
                answers[number] = logits[row, picked] if logits.ndim == 3 else logits[[row]]
        return [answers[number] for number in range(len(sequences))]

    def best_setting(self, batches: Sequence[Sequence[Encoded]]) -> None:
        """Keep the setting that is fastest on these batches, second of two goes."""

        def seconds(setting: Setting) -> float:
            self.setting = setting
            for _ in range(2):
                start = time.perf_counter()
                for batch in batches:
                    self(batch)
                took = time.perf_counter() - start
            return took

        single = max(map(len, batches)) == 1
        self.setting = min((one for one in SETTINGS if not single or one.group == 32), key=seconds)


def transformers_eager(model: PreTrainedModel) -> Padded:
    """Plain transformers, padded; on a GPU where there is one."""
    import torch

    device = next(model.parameters()).device

    @torch.inference_mode()
    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        given = {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}
        return model(**given).logits.float().cpu().numpy()

    return run


def compiled(model: PreTrainedModel) -> Padded:
    """torch.compile with dynamic shapes."""
    import torch

    return transformers_eager(torch.compile(model, dynamic=True))  # type: ignore[arg-type]


def torch_int8(model: PreTrainedModel) -> Padded:
    """PyTorch's dynamic int8 linear layers."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers_eager(torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8))


class NaiveEarlyExit(Rival):
    """The thesis's loop: every classifier for the whole batch, layers until the last input has exited."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(self._run)
        self.model, self.deepest = model, model.config.num_hidden_layers

    def __call__(self, sequences: Sequence[Encoded], leave_after: Sequence[int] = ()) -> list[np.ndarray]:
        """Return what the exit says after which the deepest of the batch leaves."""
        self.deepest = max(leave_after, default=self.model.config.num_hidden_layers)
        return super().__call__(sequences)

    def _run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        import torch
        from transformers.masking_utils import create_bidirectional_mask

        model, device = self.model, self.model.device
        with torch.inference_mode():
            hidden = model.roberta.embeddings(input_ids=torch.from_numpy(ids).to(device))
            keep = torch.from_numpy(mask).to(device)
            bias = create_bidirectional_mask(config=model.config, inputs_embeds=hidden, attention_mask=keep)
            for number, layer in enumerate(model.roberta.encoder.layer, start=1):
                hidden = layer(hidden, bias)
                if number in model.config.exit_layers:
                    logits = model.classify(number, hidden)
                    shares = logits.softmax(-1)
                    entropy = -(shares * shares.log()).sum(-1)
                    # The host decides, and here finds that whoever leaves last does so.
                    if float(entropy.max()) >= 0 and number >= self.deepest:
                        break
            return logits.float().cpu().numpy()


def write_onnx(model: PreTrainedModel, path: Path) -> None:
    """Export a plain model, with dynamic shapes, for ONNX Runtime and its int8."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    ids = torch.full((2, 8), 5)
    axes = {0: "batch", 1: "tokens"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (ids, torch.ones_like(ids)),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": {0: "batch", 1: "tokens"}},
            opset_version=17,
            dynamo=False,
        )
    quantize_dynamic(path, path.with_suffix(".int8.onnx"), per_channel=True, weight_type=QuantType.QInt8)


def onnx_runtime(path: Path) -> Padded:
    """ONNX Runtime with all its graph optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    # Threads spin within a run, and leave the cores to the next candidate after it.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def write_openvino(model: PreTrainedModel, path: Path, calibration: Sequence[Encoded]) -> None:
    """Convert a plain model, and quantise it with NNCF (static scales, SmoothQuant, as its makers advise)."""
    import nncf
    import openvino
    import torch

    ids = torch.full((2, 8), 5)
    shape = openvino.PartialShape([-1, -1])
    with torch.no_grad():
        converted = openvino.convert_model(
            model, example_input={"input_ids": ids, "attention_mask": torch.ones_like(ids)}, input=[shape, shape]
        )
    openvino.save_model(converted, path, compress_to_fp16=False)
    samples = [
        {"input_ids": one.ids[None], "attention_mask": np.ones((1, len(one.ids)), np.int64)} for one in calibration
    ]
    quantised = nncf.quantize(
        converted, nncf.Dataset(samples), subset_size=len(samples), model_type=nncf.ModelType.TRANSFORMER
    )
    openvino.save_model(quantised, path.with_suffix(".int8.xml"), compress_to_fp16=False)


def openvino_dynamic(path: Path, precision: str = "f32") -> Padded:
    """One OpenVINO graph with dynamic shapes; precision "f32", or "" for the plugin's own choice (bf16 if it can)."""
    request = _compile(path, precision).create_infer_request()

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return request.infer({"input_ids": ids, "attention_mask": mask}, share_inputs=True, share_outputs=True)[0]

    return run


def openvino_static(path: Path) -> Padded:
    """A static OpenVINO graph for each shape that comes, compiled when it first comes: fast, at a price in memory."""
    requests: dict[tuple[int, ...], Any] = {}

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        if ids.shape not in requests:
            requests[ids.shape] = _compile(path, "f32", ids.shape).create_infer_request()
        return requests[ids.shape].infer(
            {"input_ids": ids, "attention_mask": mask}, share_inputs=True, share_outputs=True
        )[0]

    return run


def _compile(path: Path, precision: str, shape: tuple[int, ...] | None = None) -> Any:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    if shape:
        model.reshape(dict.fromkeys(("input_ids", "attention_mask"), shape))
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS}
    if precision:
        settings["INFERENCE_PRECISION_HINT"] = precision
    return core.compile_model(model, "CPU", settings)


def ctranslate2_encoder(model: PreTrainedModel, tokenizer: Path, precision: str) -> Padded:
    """CTranslate2's encoder and PyTorch's classifier: it runs XLM-R that classifies texts.

    Args:
        model: Plain.
        tokenizer: A folder with its tokenizer; what is written stands beside it.
        precision: float32 or int8.
    """
    import ctranslate2
    import torch
    from ctranslate2.converters import TransformersConverter

    # transformers 5 writes no such key, and the converter asserts it.
    model.config.position_embedding_type = "absolute"
    folder = tokenizer.with_suffix(".ct2")
    model.save_pretrained(folder / "source")
    for file in tokenizer.glob("tokenizer*"):
        shutil.copy(file, folder / "source")
    converted = folder / precision
    TransformersConverter(str(folder / "source")).convert(str(converted), quantization=precision, force=True)
    encoder = ctranslate2.Encoder(
        str(converted), device="cpu", inter_threads=1, intra_threads=THREADS, compute_type=precision
    )

    @torch.inference_mode()
    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        rows = [row[:length].tolist() for row, length in zip(ids, mask.sum(axis=1), strict=True)]
        hidden = np.array(encoder.forward_batch(rows).last_hidden_state)
        return model.classifier(torch.from_numpy(hidden)).numpy()

    return run
