"""Peak resident size of a fresh process that tags Swahili with the whole vocabulary: ours and the alternatives'.

Each alternative is loaded as its own documentation says, without what it does not need: no torch beside ONNX Runtime
or OpenVINO, `tokenizers` in place of transformers. benchmarks/inference.py starts this script once for each.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rivals

from halfling.cost.memory import peak_bytes, peak_bytes_of_this_process

if TYPE_CHECKING:
    from halfling.records import EncoderShape
    from halfling.tasks import Task

Answer = Callable[[list[list[str]]], Any]
"""Sentences as words, answered together."""


def measure_memory(
    task: "Task", shape: "EncoderShape", folder: Path, tokenizer: Any, exits: Sequence[int], *, all_of_them: bool
) -> dict[str, int]:
    """Return the peak of each candidate's process in bytes, ours first."""
    from workload import export_model, read_sentences, write_model

    from halfling.tasks.examples import read_examples

    shape = shape.model_copy(update={"vocab_size": len(tokenizer)})
    texts, model, whole = folder / "swahili.json", folder / "whole", folder / "whole-plain"
    texts.write_text(json.dumps([one.words for one in read_examples(task, "dev", "sw")[:32]]), encoding="utf-8")
    plain = write_model(model, task, shape, exits, tokenizer)[0]
    kinds = {"ours openvino int8, early exit": ("ours", export_model(model, "int8"))}
    if all_of_them:
        plain.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        rivals.write_onnx(plain, whole / "model.onnx")
        rivals.write_openvino(plain, whole / "model.xml", read_sentences(task, tokenizer, 8, shape.vocab_size)["sw"])
        kinds |= {
            "transformers float32": ("eager", whole),
            "torch dynamic int8": ("torch_int8", whole),
            "ONNX Runtime float32": ("onnx", whole / "model.onnx"),
            "ONNX Runtime int8": ("onnx", whole / "model.int8.onnx"),
            "OpenVINO float32": ("openvino", whole / "model.xml"),
            "OpenVINO int8": ("openvino", whole / "model.int8.xml"),
        }
    del plain
    return {
        name: peak_bytes([sys.executable, __file__, kind, str(place), str(texts)])
        for name, (kind, place) in kinds.items()
    }


def tag(kind: str, place: Path, texts: list[list[str]]) -> None:
    """Tag the sentences one by one, then all together."""
    answer = _KINDS[kind](kind, place)
    for text in texts:
        answer([text])
    answer(texts)


def _ours(_: str, place: Path) -> Answer:
    from halfling.engine import AdaptiveEngine

    return AdaptiveEngine.from_pretrained(place, threads=rivals.THREADS).predict


def _torch(kind: str, place: Path) -> Answer:
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    torch.set_num_threads(rivals.THREADS)
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForTokenClassification.from_pretrained(place).eval()
    padded = rivals.torch_int8(model) if kind == "torch_int8" else rivals.transformers_eager(model)

    def run(texts: list[list[str]]) -> Any:
        given = tokenizer(texts, is_split_into_words=True, padding=True, return_tensors="np")
        return padded(given["input_ids"], given["attention_mask"])

    return run


def _graph(kind: str, place: Path) -> Answer:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(place.parent / "tokenizer.json"))
    tokenizer.enable_padding(pad_id=rivals.PAD, pad_token="<pad>")
    padded = rivals.onnx_runtime(place) if kind == "onnx" else rivals.openvino_dynamic(place)

    def run(texts: list[list[str]]) -> Any:
        rows = tokenizer.encode_batch(texts, is_pretokenized=True)
        return padded(
            np.array([row.ids for row in rows], np.int64), np.array([row.attention_mask for row in rows], np.int64)
        )

    return run


_KINDS = {"ours": _ours, "eager": _torch, "torch_int8": _torch, "onnx": _graph, "openvino": _graph}


def main() -> None:
    """Tag, and print the peak as JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("kind", choices=_KINDS)
    options.add_argument("model", type=Path, help="its folder, or a graph's file beside a tokenizer.json")
    options.add_argument("texts", type=Path, help="JSON: lists of words")
    chosen = options.parse_args()
    tag(chosen.kind, chosen.model, json.loads(chosen.texts.read_text(encoding="utf-8")))
    print(json.dumps({"peak_bytes": peak_bytes_of_this_process()}))


if __name__ == "__main__":
    main()
