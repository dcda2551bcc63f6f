"""What a user would otherwise deploy: each runtime as a function from padded ids and mask to logits.

Nothing is imported before it is needed: benchmarks/resident.py measures processes that hold one of them.
"""

from __future__ import annotations

import shutil
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from padding import Padded

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from halfling.tasks.encoded import Encoded

ROW_SCALES, SMOOTH, SENTENCE_TRANSFORMERS = "weights", "smooth", "sentence-transformers"
"""How OpenVINO's graphs are quantised: weights alone, activations scaled as they come; or static scales in two ways."""


def plain(model: PreTrainedModel, attention: str = "sdpa") -> PreTrainedModel:
    """Return the model as transformers has it, without exits."""
    from transformers import XLMRobertaConfig

    from halfling.models.classifier import PLAIN

    kept = {
        name: value for name, value in model.config.to_dict().items() if not name.startswith(("exit_", "model_type"))
    }
    head = "token" if "Token" in type(model).__name__ else "sequence"
    made = PLAIN[head]._from_config(XLMRobertaConfig(**kept), attn_implementation=attention).eval()
    made.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith("exits.")})
    return made


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


def write_onnx(model: PreTrainedModel, path: Path) -> None:
    """Export a plain model with dynamic shapes, and its dynamic int8 beside it (weights scaled by output)."""
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


def onnx_runtime(path: Path, threads: int) -> Padded:
    """ONNX Runtime with all its graph optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads spin within a run, and leave the cores to the next candidate after it.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def write_openvino(model: PreTrainedModel, path: Path) -> None:
    """Convert a plain model, with dynamic shapes."""
    import openvino
    import torch

    ids = torch.full((2, 8), 5)
    shape = openvino.PartialShape([-1, -1])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = openvino.convert_model(
            model, example_input={"input_ids": ids, "attention_mask": torch.ones_like(ids)}, input=[shape, shape]
        )
    openvino.save_model(converted, path, compress_to_fp16=False)


def quantise_openvino(path: Path, how: str, calibration: Sequence[Encoded]) -> Path:
    """Quantise a converted model with NNCF and return the new file.

    `SENTENCE_TRANSFORMERS`: what its `export_static_quantized_openvino_model` asks of optimum-intel by default, whose
    `OVQuantizationConfig()` becomes preset MIXED (activations asymmetric), 128 samples, fast bias correction, no fix
    of overflows. Differences: the samples are dev sentences of the task, not English film reviews padded to 384.
    """
    import nncf
    import openvino

    out, read = path.with_suffix(f".{how}.xml"), openvino.Core().read_model(path)
    if out.exists():
        return out
    if how == ROW_SCALES:
        made = nncf.compress_weights(read, mode=nncf.CompressWeightsMode.INT8_SYM)
    else:
        advanced: Any = nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.DISABLE)
        options: dict[str, Any] = {"preset": nncf.QuantizationPreset.MIXED, "fast_bias_correction": True}
        if how == SMOOTH:
            advanced, options = nncf.AdvancedQuantizationParameters(), {}
            advanced.smooth_quant_alphas.matmul = 0.8
        samples = [
            {"input_ids": one.ids[None], "attention_mask": np.ones((1, len(one.ids)), np.int64)} for one in calibration
        ][:128]
        made = nncf.quantize(
            read,
            nncf.Dataset(samples),
            subset_size=len(samples),
            model_type=nncf.ModelType.TRANSFORMER,
            advanced_parameters=advanced,
            **options,
        )
    openvino.save_model(made, out, compress_to_fp16=False)
    return out


class OpenVino:
    """A graph with dynamic shapes, or one of each shape that comes, compiled when it first comes."""

    def __init__(self, path: Path, threads: int, *, static: bool = False, **settings: Any) -> None:
        import openvino

        self.core, self.path, self.static = openvino.Core(), path, static
        self.settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **settings}
        self.products: Counter[str] = Counter()
        self.requests: dict[tuple[int, ...] | None, Any] = {}

    def __call__(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return logits, which the next call may write over."""
        key = ids.shape if self.static else None
        if key not in self.requests:
            self.requests[key] = self._compile(key)
        given = {"input_ids": ids, "attention_mask": mask}
        found = self.requests[key].infer(given, share_inputs=True, share_outputs=True)[0]
        if len(found) != len(ids):  # seen where a library is held to older instructions
            raise RuntimeError(f"answers {len(found)} of {len(ids)} sequences, products: {', '.join(self.products)}")
        return found

    def _compile(self, shape: tuple[int, ...] | None) -> Any:
        model = self.core.read_model(self.path)
        if shape:
            model.reshape(dict.fromkeys(("input_ids", "attention_mask"), shape))
        made = self.core.compile_model(model, "CPU", self.settings)
        known = (node.get_rt_info() for node in made.get_runtime_model().get_ops())
        self.products.update(
            one["primitiveType"].astype(str) for one in known if one["layerType"].astype(str) == "FullyConnected"
        )
        return made.create_infer_request()


def ctranslate2_encoder(model: PreTrainedModel, tokenizer: Path, scratch: Path, threads: int) -> Padded:
    """CTranslate2's int8 encoder, and the classifier in numpy: it reads XLM-R that classifies texts.

    Args:
        model: Plain; of a tagger the encoder is converted under a classifier of texts.
        tokenizer: A folder with its tokenizer.
        scratch: A folder for what is written.
        threads: How many compute.
    """
    import ctranslate2
    from ctranslate2.converters import TransformersConverter
    from transformers import XLMRobertaForSequenceClassification

    of_texts = XLMRobertaForSequenceClassification(model.config)
    of_texts.roberta.load_state_dict(model.roberta.state_dict())
    # transformers 5 writes no such key, and the converter asserts it.
    of_texts.config.position_embedding_type = "absolute"
    of_texts.save_pretrained(scratch / "source")
    for file in tokenizer.glob("tokenizer*"):
        shutil.copy(file, scratch / "source")
    TransformersConverter(str(scratch / "source")).convert(str(scratch / "int8"), quantization="int8")
    encoder = ctranslate2.Encoder(
        str(scratch / "int8"), device="cpu", inter_threads=1, intra_threads=threads, compute_type="int8"
    )
    weights = {name: value.numpy() for name, value in model.classifier.state_dict().items()}

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        rows = [row[:length].tolist() for row, length in zip(ids, mask.sum(axis=1), strict=True)]
        hidden = np.array(encoder.forward_batch(rows).last_hidden_state)
        if "weight" in weights:
            return hidden @ weights["weight"].T + weights["bias"]
        pooled = np.tanh(hidden[:, 0] @ weights["dense.weight"].T + weights["dense.bias"])
        return pooled @ weights["out_proj.weight"].T + weights["out_proj.bias"]

    return run
