"""Time and memory of several models on one task, measured side by side."""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field
from transformers import PreTrainedModel

from halfling.cost.latency import interleaved_medians
from halfling.cost.memory import peak_bytes
from halfling.evaluate.network import load_network, mean_gflops
from halfling.files import write_text
from halfling.fingerprint import reading
from halfling.languages import SETS
from halfling.models.load import load_tokenizer
from halfling.models.shapes import require_room
from halfling.records import Cost, Counts, Progress, Settings, TaskName, silent
from halfling.tasks import TASKS, Encoded
from halfling.tasks.predict import predict
from halfling.tasks.sources import labelled_files

BATCH = 32


class CostSettings(Settings):
    """How thoroughly time and memory are measured."""

    task: TaskName = Field(description='"xnli" or "wikiann"')
    languages: tuple[str, ...] = Field(SETS["thesis-6"], min_length=1, description="dev splits to take sentences from")
    max_tokens: int = Field(128, ge=8, description="longer inputs are cut; special tokens included")
    rounds: int = Field(7, ge=2, description="timed rounds, every model once in each")
    warmup: int = Field(2, ge=0, description="untimed rounds before")


@reading(data=labelled_files)
def measure_costs(
    *,
    settings: CostSettings,
    models: dict[str, Path],
    policies: dict[str, Path],
    data: str | Path,
    out: Path,
    progress: Progress = silent,
) -> Counts:
    """Write `costs.jsonl`, a `records.Cost` for each model and language.

    The first 32 sentences of a language's dev split go through every model, one by one and as one batch, in
    rounds that interleave the models. Time counts padding and the forward pass of encoded inputs, not their
    tokenisation, which is the same for all. Memory is the peak of a fresh process that loads model and tokenizer
    and answers those batches, one number for each model.

    Args:
        settings: The task, languages and rounds.
        models: Name in the results -> folder.
        policies: The same names -> calibration folder, for early-exit models.
        data: Where the dev splits are.
        out: Where to write.
        progress: Told of every language.

    Returns:
        The largest spread (interquartile range / median) of any timing.
    """
    task = TASKS[settings.task]
    networks = {name: load_network(settings.task, folder, policies.get(name)) for name, folder in models.items()}
    for name, network in networks.items():
        require_room(network.config, settings.max_tokens, models[name])
    tokenizers = {name: load_tokenizer(folder) for name, folder in models.items()}
    sentences = {language: task.read(data, "dev", language)[:BATCH] for language in settings.languages}
    total = len(sentences) + len(models)
    peaks = {}
    for number, (name, folder) in enumerate(models.items()):
        progress(number, total, f"memory of {name}")
        peaks[name] = _peak(settings, folder, policies.get(name), sentences)
    lines, spreads = [], []
    for number, (language, examples) in enumerate(sentences.items(), start=len(models)):
        progress(number, total, f"time in {language}")
        encoded = {name: task.encode(examples, tokenizers[name], settings.max_tokens) for name in models}
        single = interleaved_medians(_calls(networks, encoded, 1), rounds=settings.rounds, warmup=settings.warmup)
        batched = interleaved_medians(_calls(networks, encoded, BATCH), rounds=settings.rounds, warmup=settings.warmup)
        spreads += [timing.spread for timing in (*single.values(), *batched.values())]
        lines += [
            Cost(
                model=name,
                task=settings.task,
                language=language,
                latency_ms_b1=single[name].median_ms / len(examples),
                latency_ms_b32=batched[name].median_ms,
                peak_bytes=peaks[name],
                timed_gflops=mean_gflops(networks[name], settings.task, predict(networks[name], encoded[name], BATCH)),
            )
            for name in models
        ]
    progress(total, total, "")
    write_text(out / "costs.jsonl", "".join(line.model_dump_json() + "\n" for line in lines))
    return {"largest_spread": round(max(spreads), 3)}


def _calls(
    networks: dict[str, PreTrainedModel], encoded: dict[str, Encoded], batch_size: int
) -> dict[str, Callable[[], object]]:
    return {name: partial(predict, network, encoded[name], batch_size) for name, network in networks.items()}


def _peak(settings: CostSettings, model: Path, policy: Path | None, sentences: dict[str, list[Any]]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work.json"
        work.write_text(
            json.dumps(
                {
                    "task": settings.task,
                    "model": str(model),
                    "policy": str(policy) if policy else None,
                    "max_tokens": settings.max_tokens,
                    "batches": [[asdict(example) for example in batch] for batch in sentences.values()],
                }
            ),
            encoding="utf-8",
        )
        return peak_bytes([sys.executable, "-m", "halfling.evaluate.fresh_process", str(work)])
