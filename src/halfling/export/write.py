"""The export: a trained model's segments, embeddings and tokenizer, in one folder that the engine runs."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from halfling.engine.backends import MODULES
from halfling.engine.embeddings import POSITIONS, SCALES, TABLE, write_embeddings
from halfling.engine.exported import EXPORTED, FORMAT, BackendName, Exported, Precision, segment_name
from halfling.engine.text import SENTENCEPIECE_FILE, SentencePieces, TokenizersPieces
from halfling.engine.tuning import TUNING
from halfling.errors import HalflingError
from halfling.exits.policy import ExitPolicy
from halfling.export.check import Agreement, agreement
from halfling.export.pieces import sentencepiece_model
from halfling.export.sentences import Sentences, sentences
from halfling.export.trained import Trained, load_trained
from halfling.files import sha256
from halfling.folders import whole_folder
from halfling.records import Progress, silent

_ROUNDING = 1e-2
"""More than float32's rounding makes of any logit, and less than a wrong graph does."""

_OWN = {EXPORTED, TUNING, TABLE, SCALES, POSITIONS, SENTENCEPIECE_FILE, "tokenizer.json", *MODULES}
"""What may stand in an exported model's folder, and goes with it."""


def export(
    *,
    model: Path,
    out: Path,
    backends: Sequence[str] = ("openvino",),
    precision: Precision = "float32",
    policy: Path | None = None,
    data: str | Path | None = None,
    progress: Progress = silent,
) -> list[Agreement]:
    """Write an exported model into `out`, whole or not at all, and return how each backend agrees with torch.

    Args:
        model: A fine-tuned model's folder, plain or with exits.
        out: The folder to write; what an earlier export wrote there is replaced.
        backends: Who shall run it; they share embeddings and tokenizer.
        precision: "int8" has integer linear layers with static scales, taken from English dev.
        policy: A calibration's folder; without one nobody leaves early.
        data: Where English dev is, for int8's scales; the embedded sample when absent.
        progress: Told of every segment.

    Raises:
        HalflingError: Something cannot be read, `out` holds something else, another export is writing it, or float32
            does not say what torch says.
    """
    out = out.resolve()  # a link's target is replaced, not the link
    if out in (Path.cwd(), *Path.cwd().parents):
        raise HalflingError(f"{out}: is the working folder or around it, and would be replaced: name another")
    if out.exists() and (not out.is_dir() or (not (out / EXPORTED).is_file() and any(out.iterdir()))):
        raise HalflingError(f"{out}: holds something that is no exported model: name another folder")
    foreign = sorted({path.name for path in out.iterdir()} - _OWN) if out.exists() else []
    if foreign:
        raise HalflingError(f"{out}: holds {foreign[0]}, which no export wrote: move it, or name another folder")
    unknown = sorted({*backends} - {*MODULES})
    if unknown:
        raise HalflingError(f"unknown backend {unknown[0]!r}: choose from {', '.join(MODULES)}")
    chosen = [name for name in MODULES if name in backends]
    if precision == "int8" and "torch" in backends:
        raise HalflingError("torch: runs float32 only: export int8 for openvino or onnx")
    trained = load_trained(model, policy)
    if model.resolve() in (out, *out.parents):
        raise HalflingError(f"{out}: lies in the model's own folder {model}: name a folder beside it")
    examples = sentences(trained, model, data)
    with whole_folder(out) as new:
        _write(trained, model, examples, new, chosen, precision, progress)
        agreements = [agreement(trained, examples, new, backend) for backend in chosen]
        for one in agreements:
            off = one.largest_difference
            if not math.isfinite(off) or (precision == "float32" and off > _ROUNDING):
                raise HalflingError(
                    f"{one.backend}: logits differ by {off:.2g} from the trained model's: nothing was written"
                )
    return agreements


def _write(
    trained: Trained,
    model: Path,
    examples: Sentences,
    out: Path,
    backends: Sequence[BackendName],
    precision: Precision,
    progress: Progress,
) -> None:
    weights = {name: weight.numpy() for name, weight in trained.network.state_dict().items()}
    shape, config = trained.shape, trained.network.config
    policy = trained.policy if trained.policy.is_early else ExitPolicy(layers=(shape.num_layers,), thresholds=())
    embeddings = "roberta.embeddings."
    types = weights[f"{embeddings}token_type_embeddings.weight"][0]
    write_embeddings(
        out,
        weights[f"{embeddings}word_embeddings.weight"],
        weights[f"{embeddings}position_embeddings.weight"][config.pad_token_id + 1 :] + types,
        precision,
    )
    tokenizer = _write_tokenizer(model, out, examples.texts)
    exported = Exported(
        format=FORMAT,
        kind=trained.kind,
        labels=trained.labels,
        shape=shape,
        precision=precision,
        policy=policy,
        tokenizer=tokenizer,
        backends=tuple(backends),
        files={},
    )
    if {*backends} & {"openvino", "onnx"}:
        _write_segments(trained, weights, exported, examples, out, progress)
    if "torch" in backends:
        shutil.copytree(
            model, out / "torch", ignore=shutil.ignore_patterns("manifest.json", "tokenizer*", "sentencepiece*")
        )
    found = {path.relative_to(out).as_posix(): sha256(path) for path in sorted(out.rglob("*")) if path.is_file()}
    exported.model_copy(update={"files": found}).sealed().write(out / EXPORTED)


def _write_segments(
    trained: Trained,
    weights: dict[str, np.ndarray],
    exported: Exported,
    examples: Sentences,
    out: Path,
    progress: Progress,
) -> None:
    import onnx

    from halfling.export.graph import Int8, SegmentGraph
    from halfling.export.int8 import largest_inputs

    act = trained.network.config.hidden_act
    if act != "gelu":
        raise HalflingError(f"hidden_act {act}: openvino and onnx compute gelu only: export for torch")
    int8 = Int8(largest_inputs(trained, examples.ids)) if exported.precision == "int8" else None
    graph = SegmentGraph(exported.shape, weights, trained.network.config.layer_norm_eps, int8)
    for name in {*exported.backends} - {"torch"}:
        (out / name).mkdir()
    for number, (first, last) in enumerate(exported.segments):
        progress(number, len(exported.segments), f"layers {first} to {last}")
        segment = segment_name(first, last)
        built = graph.build(first, last, by_token=exported.policy.granularity == "token")
        onnx.checker.check_model(built)
        if "onnx" in exported.backends:
            onnx.save(built, out / "onnx" / f"{segment}.onnx")
        if "openvino" in exported.backends:
            import openvino

            # As bytes: what is read from a file is mapped, and stays in use.
            read = openvino.Core().read_model(built.SerializeToString(), b"")
            openvino.save_model(read, out / "openvino" / f"{segment}.xml", compress_to_fp16=False)
    progress(len(exported.segments), len(exported.segments), "")


def _write_tokenizer(model: Path, out: Path, texts: Sequence[str]) -> str:
    """Write SentencePiece's model when it cuts `texts` as `tokenizer.json` does, else that; return which."""
    source = model / "tokenizer.json"
    if not source.is_file():
        raise HalflingError(f"{model}: no tokenizer.json: save the model with its tokenizer")
    try:
        (out / SENTENCEPIECE_FILE).write_bytes(sentencepiece_model(source))
        if SentencePieces(out / SENTENCEPIECE_FILE)(texts) == TokenizersPieces(source)(texts):
            return "sentencepiece"
    except HalflingError:
        pass
    (out / SENTENCEPIECE_FILE).unlink(missing_ok=True)
    shutil.copyfile(source, out / source.name)
    return "tokenizers"
