"""The trim stage: a model and its tokenizer cut down to the pieces that some languages use."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64
from pydantic import Field
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase, XLMRobertaConfig, XLMRobertaForMaskedLM

from halfling import json_text
from halfling.bounds import Count
from halfling.errors import HalflingError
from halfling.files import MANIFEST, write_json
from halfling.languages import resolve
from halfling.models.classifier import is_classifier, load_classifier, read_checkpoint
from halfling.models.load import load_masked_lm, load_tokenizer, save_masked_lm
from halfling.records import Counts, Progress, Settings, silent
from halfling.tasks.encode import encode
from halfling.tasks.encoded import Encoded
from halfling.tasks.examples import TaggedExample, dev_examples
from halfling.tasks.of_model import task_of
from halfling.tasks.predict import answers, predict
from halfling.tasks.task import Task, read_task
from halfling.tokens.encode import TextEncoder
from halfling.tokens.encode import load_tokenizer as load_fast
from halfling.tokens.piece_counts import counts_of_text, known_counts
from halfling.tokens.trim import choose, own_ids, pieces_of, save_trimmed

_WEIGHTS = "model.safetensors"
_ROWS = ("word_embeddings.weight", "lm_head.bias", "lm_head.decoder.weight", "lm_head.decoder.bias")
"""Ends of the names of weights with a row for each piece."""

_NOT_COPIED = (
    "*.safetensors*",
    "*.bin",
    "*.model",
    "tokenizer*",
    "special_tokens*",
    MANIFEST,
    "config.json",
)
_ANSWERED = 256


class TrimSettings(Settings):
    """Which pieces are kept."""

    languages: str | tuple[str, ...] | None = Field(
        None, description="CC100's codes, or a set's name; without text, by counts that come with halfling"
    )
    coverage: float = Field(1.0, gt=0, le=1, description="share of each language's tokens that stay whole, in the text")
    max_pieces: Count | None = Field(None, gt=0, description="at most so many, the most used; no limit")


def trim(
    *,
    settings: TrimSettings,
    model: Path,
    out: Path,
    corpus: Path | None = None,
    task: Task | None = None,
    progress: Progress = silent,
) -> Counts:
    """Write MODEL with the pieces alone that some languages use, embeddings and tokenizer cut together.

    A text whose pieces all stay has the same pieces and the same answers as before.

    Args:
        model: A masked language model, an encoder, or a fine-tuned model, plain or with exits.
        corpus: Text: what halfling built, or a folder of `sw.txt` or `sw.txt.xz`; counts that come along without.
        task: Labelled data, on whose dev texts the difference is measured; those of a fine-tuned model's task without.

    Returns:
        Numbers of pieces before and after, and by language the share of dev texts whose pieces all stay
        (`unchanged`), and of a fine-tuned model's answers to the first 256 of them that are the same (`same_answers`).

    Raises:
        HalflingError: The model or text cannot be read, halfling has no counts, or neither text nor languages are
            named.
    """
    progress(0, 3, "choosing pieces")
    cut = cut_down(settings, model, out, corpus)
    progress(1, 3, "comparing dev texts")
    found = {"pieces_before": len(cut.before), "pieces": len(cut.after)} | compare(cut, model, out, task)
    progress(3, 3, "done")
    return found


class Cut(NamedTuple):
    """Tokenizers before and after, and which ids of the one are the other's."""

    before: PreTrainedTokenizerBase
    after: PreTrainedTokenizerBase
    ids: Int64[np.ndarray, " kept"]


def cut_down(settings: TrimSettings, model: Path, out: Path, corpus: Path | None) -> Cut:
    """Write a model's folder with fewer pieces.

    Raises:
        HalflingError: As `trim`.
    """
    tokenizer = load_tokenizer(model)
    classifier = load_classifier(model) if is_classifier(model) else None
    # Loaded though what is cut is the file: weights that are no numbers, or not the configuration's, are refused.
    network, has_head = (classifier, True) if classifier else load_masked_lm(XLMRobertaForMaskedLM, model)
    codes = None if settings.languages is None else resolve(settings.languages)
    if corpus is not None:
        tokenizer.save_pretrained(out)
        counts = counts_of_text(corpus, TextEncoder(load_fast(out)), len(tokenizer), codes)
    elif codes is not None:
        ids = own_ids(tokenizer)
        counts = {code: each[ids] for code, each in known_counts(codes).items()}
    else:
        raise HalflingError("trim: neither languages nor text: name --languages sw,en, or --corpus FOLDER")
    kept = choose(pieces_of(tokenizer), counts, coverage=settings.coverage, max_pieces=settings.max_pieces)
    source = model
    converted = not model.is_dir() or _config(model).get("model_type") == "bert"
    if not converted:
        shutil.copytree(model, out, ignore=shutil.ignore_patterns(*_NOT_COPIED), dirs_exist_ok=True)
    if converted or not (model / _WEIGHTS).is_file():  # or its weights lie in several files
        source = out
        if classifier:
            classifier.save_pretrained(out)
        else:
            save_masked_lm(network.config, network.state_dict(), tokenizer, out, has_head=has_head)
    _write(model, source, tokenizer, kept, out)
    return Cut(tokenizer, load_tokenizer(out), kept)


def _write(
    model: Path, source: Path, tokenizer: PreTrainedTokenizerBase, kept: Int64[np.ndarray, " kept"], out: Path
) -> None:
    weights = load_file(source / _WEIGHTS)
    for name, weight in weights.items():
        if name.endswith(_ROWS):
            if len(weight) != len(tokenizer):
                raise HalflingError(f"{model}: {name} has {len(weight)} rows, its tokenizer {len(tokenizer)} pieces")
            weights[name] = weight[kept].contiguous()
    save_file(weights, out / _WEIGHTS, metadata={"format": "pt"})
    (out / _WEIGHTS).chmod(0o644)  # the library writes for its owner alone
    # A stored policy names the weights that it was made for, and these are others.
    said = {name: value for name, value in _config(source).items() if name != "exit_policy"}
    write_json(out / "config.json", said | {"vocab_size": len(kept)})
    save_trimmed(tokenizer, kept, out)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    said: dict[str, Any] = json_text.read(path) if path.is_file() else {}
    return said


def compare(cut: Cut, model: Path, trimmed: Path, task: Task | None) -> dict[str, float]:
    """Return by language `unchanged` of the dev texts and, of a fine-tuned model, `same_answers`; of no task nothing.

    Raises:
        HalflingError: The data cannot be read.
    """
    classifies = is_classifier(model)
    if classifies and (task or read_task(model)):
        task = task_of(model, task)
    if task is None:
        return {}
    networks = [load_classifier(folder) for folder in (model, trimmed)] if classifies else []
    labels = read_checkpoint(model).labels if classifies else ()
    found: dict[str, float] = {}
    for code, examples in dev_examples(task, task.languages).items():
        longest = int((XLMRobertaConfig().to_dict() | _config(trimmed))["max_position_embeddings"]) - 2
        before, after = (encode(examples, each, longest) for each in (cut.before, cut.after))
        same = [np.array_equal(cut.ids[new.ids], old.ids) for new, old in zip(after, before, strict=True)]
        found[f"unchanged {code}"] = round(float(np.mean(same)), 4)
        if classifies:
            some = examples[:_ANSWERED]
            pair = [
                _answers(network, labels, some, encoded[: len(some)])
                for network, encoded in zip(networks, (before, after), strict=True)
            ]
            agree = [one == other for one, other in zip(*pair, strict=True)]
            found[f"same_answers {code}"] = round(float(np.mean(agree)), 4)
    return found


def _answers(
    network: PreTrainedModel, labels: Sequence[str], examples: Sequence[Any], encoded: Sequence[Encoded]
) -> list[Any]:
    """Return a model's labels: one for each text, or for each word."""
    words = [len(one.words) for one in examples] if isinstance(examples[0], TaggedExample) else None
    found = answers(predict(network, encoded, 32).logits, encoded, labels, words)
    return [one for each in found for one in (each if isinstance(each, list) else [each])]
