"""Peak resident size of a fresh process that tags Swahili with the whole vocabulary: ours and the alternatives'.

Each alternative is loaded as its own documentation says, without what it does not need: no torch beside ONNX Runtime
or OpenVINO, `tokenizers` in place of transformers.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from halfling.cost.memory import peak_bytes, peak_bytes_of_this_process

THREADS = 2


def measure_memory(
    data: Path, folder: Path, tokenizer: Any, exits: tuple[int, ...], *, all_of_them: bool
) -> dict[str, int]:
    """Return the peak of each candidate's process in bytes, ours first."""
    import rivals
    from workload import read_sentences, write_model

    from halfling.export.write import export
    from halfling.models.shapes import SHAPES

    shape = SHAPES["xlm-roberta-base"].model_copy(update={"vocab_size": len(tokenizer)})
    sentences = read_sentences("wikiann", data, tokenizer, 32, shape.vocab_size)["sw"]
    texts, model = folder / "swahili.json", folder / "whole"
    texts.write_text(json.dumps(sentences.texts), encoding="utf-8")
    plain = write_model(model, "wikiann", shape, exits, tokenizer)[0]
    export(model=model, out=folder / "whole-ours", precision="int8", policy=model / "policy", data=data)
    kinds = {"ours openvino int8, early exit": ("ours", folder / "whole-ours")}
    if all_of_them:
        whole = folder / "whole-plain"
        plain.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        kinds["transformers float32"] = ("eager", whole)
        kinds["torch dynamic int8"] = ("torch_int8", whole)
        rivals.write_onnx(plain, whole / "model.onnx")
        rivals.write_openvino(plain, whole / "model.xml", sentences.encoded[:8])
        kinds["ONNX Runtime float32"] = ("onnx", whole / "model.onnx")
        kinds["ONNX Runtime int8"] = ("onnx", whole / "model.int8.onnx")
        kinds["OpenVINO float32"] = ("openvino", whole / "model.xml")
        kinds["OpenVINO int8"] = ("openvino", whole / "model.int8.xml")
    del plain
    return {
        name: peak_bytes([sys.executable, __file__, kind, str(place), str(texts)])
        for name, (kind, place) in kinds.items()
    }


def tag(kind: str, place: Path, texts: list[list[str]]) -> int:
    """Tag the sentences one by one, then all together, and return how many there were."""
    if kind == "ours":
        from halfling.engine import AdaptiveEngine

        engine = AdaptiveEngine.from_pretrained(place, threads=THREADS)
        for text in texts:
            engine.predict([text])
        return len(engine.predict(texts))
    run = _torch(kind, place) if kind in ("eager", "torch_int8") else _graph(kind, place)
    for text in texts:
        run([text])
    return len(run(texts))


def _torch(kind: str, place: Path) -> Any:
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    torch.set_num_threads(THREADS)
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForTokenClassification.from_pretrained(place).eval()
    if kind == "torch_int8":
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)

    def run(texts: list[list[str]]) -> Any:
        given = tokenizer(texts, is_split_into_words=True, padding=True, return_tensors="pt")
        with torch.inference_mode():
            return model(**given).logits.numpy()

    return run


def _graph(kind: str, place: Path) -> Any:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(place.parent / "tokenizer.json"))
    tokenizer.enable_padding(pad_id=1, pad_token="<pad>")
    padded: Any
    if kind == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(place, options, providers=["CPUExecutionProvider"])

        def padded(given: dict[str, np.ndarray]) -> Any:
            return session.run(None, given)[0]
    else:
        import openvino

        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": THREADS,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        request = openvino.Core().compile_model(place, "CPU", settings).create_infer_request()

        def padded(given: dict[str, np.ndarray]) -> Any:
            return request.infer(given)[0]

    def run(texts: list[list[str]]) -> Any:
        rows = tokenizer.encode_batch(texts, is_pretokenized=True)
        return padded(
            {
                "input_ids": np.array([row.ids for row in rows], np.int64),
                "attention_mask": np.array([row.attention_mask for row in rows], np.int64),
            }
        )

    return run


if __name__ == "__main__":
    tag(sys.argv[1], Path(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text(encoding="utf-8")))
    print(json.dumps({"peak_bytes": peak_bytes_of_this_process()}))
