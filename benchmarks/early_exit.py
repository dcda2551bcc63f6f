"""What early exit saves in time when it saves arithmetic: ours, the plain model and the naive loop, side by side.

    python benchmarks/early_exit.py [--quick] [--json FILE]

Random weights in XLM-R Base's shape (the vocabulary cut to 1,000 pieces: look-ups cost nothing here), a classifier
after every layer, inputs of 64 tokens, and an exit pattern imposed on them that saves what the thesis saved
(flops_share about 0.69). The naive loop is the thesis's way: every classifier is evaluated, a batch runs on until its
last input has left. All candidates run the same inputs with the same threads, interleaved round by round.
Printed are medians of time relative to the plain model, and realisation = time_share / flops_share.
"""

import argparse
import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import XLMRobertaForSequenceClassification

from halfling.cost.flops import Head, flops
from halfling.cost.latency import interleaved_medians
from halfling.criteria import Doubt
from halfling.models import XLMRobertaEarlyExitConfig, XLMRobertaEarlyExitForSequenceClassification
from halfling.models.shapes import SHAPES, config_for, shape_of
from halfling.records import ExitPolicy

TOKENS = 64
# Where each of 32 inputs leaves: after 8.25 of 12 layers on average, the thesis's share.
PATTERN = [4] * 6 + [6] * 6 + [8] * 6 + [10] * 6 + [12] * 8


class ImposedExits(XLMRobertaEarlyExitForSequenceClassification):
    """Computes its classifiers and criterion as ever, then lets inputs leave where `PATTERN` says."""

    def begin(self, exit_layers: list[int]) -> None:
        """Set where each input of the next batch leaves."""
        self.waiting = np.array(exit_layers)
        self.evaluated = iter(self.config.exit_layers)

    def doubt(self, policy: ExitPolicy) -> Doubt:
        """Return a criterion that is computed as ever, then says 0 for those who leave here, 1 for the others."""
        model = self

        class Imposed(Doubt):
            def __call__(self, logits: np.ndarray, counted: np.ndarray | None) -> np.ndarray:
                super().__call__(logits, counted)
                leave = model.waiting == next(model.evaluated)
                model.waiting = model.waiting[~leave]
                return 1 - leave.astype(np.float32)

        return Imposed(policy)


def adaptive(model: ImposedExits, batches: list[Tensor], patterns: list[list[int]]) -> None:
    """Our loop: whoever leaves is computed no further."""
    for ids, pattern in zip(batches, patterns, strict=True):
        model.begin(pattern)
        left = model(ids).exit_layers.tolist()
        if left != pattern:
            raise SystemExit(f"imposed {pattern}, left after {left}")


def naive(model: ImposedExits, batches: list[Tensor], patterns: list[list[int]]) -> None:
    """The thesis's loop: all classifiers for all inputs, until the last has left."""
    for ids, pattern in zip(batches, patterns, strict=True):
        hidden = model.roberta.embeddings(input_ids=ids)
        for number, layer in enumerate(model.roberta.encoder.layer, start=1):
            hidden = layer(hidden, None)
            probabilities = model.classify(number, hidden).softmax(-1)
            entropy = -(probabilities * probabilities.log()).sum(-1)
            if entropy.max() >= 0 and number >= max(pattern):
                break


def plain(model: XLMRobertaForSequenceClassification, batches: list[Tensor]) -> None:
    """The model without exits."""
    for ids in batches:
        model(ids)


def measure(batch_size: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return time_share, flops_share and realisation of each candidate at one batch size."""
    config = config_for(SHAPES["xlm-roberta-base"].model_copy(update={"vocab_size": 1000}))
    config.num_labels = 3
    torch.manual_seed(0)
    reference = XLMRobertaForSequenceClassification(config).eval()
    exits = XLMRobertaEarlyExitConfig(**{**config.to_dict(), "exit_layers": list(range(1, 13))})
    ours = ImposedExits(exits).eval()
    ours.load_state_dict(reference.state_dict(), strict=False)
    off = XLMRobertaEarlyExitForSequenceClassification(exits).eval()
    off.load_state_dict(ours.state_dict())
    ours.config.leave_by(ExitPolicy.uniform(tuple(range(1, 13)), 0.5))
    patterns = [PATTERN[i : i + batch_size] for i in range(0, len(PATTERN), batch_size)]
    batches = [torch.randint(4, 1000, (len(pattern), TOKENS)) for pattern in patterns]
    with torch.inference_mode():
        timings = interleaved_medians(
            {
                "plain": partial(plain, reference, batches),
                "exits off": partial(plain, off, batches),
                "adaptive": partial(adaptive, ours, batches, patterns),
                "naive": partial(naive, ours, batches, patterns),
            },
            rounds=rounds,
            warmup=2,
        )
    shape, lengths = shape_of(config), [TOKENS] * len(PATTERN)
    whole = flops(shape, lengths, [12] * len(PATTERN), Head(kind="sequence", num_classes=3)).total
    head = Head(kind="sequence", num_classes=3, layers=tuple(range(1, 13)))
    share = flops(shape, lengths, PATTERN, head).total / whole
    rows = {}
    for name, timing in timings.items():
        time_share = timing.median_ms / timings["plain"].median_ms
        own = share if name in ("adaptive", "naive") else 1.0
        rows[name] = {
            "median_ms": round(timing.median_ms / len(batches), 2),
            "spread": round(timing.spread, 3),
            "flops_share": round(own, 3),
            "time_share": round(time_share, 3),
            "realisation": round(time_share / own, 3),
        }
    return rows


def main() -> None:
    """Measure, print, and write JSON where asked."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="fewer rounds, under four minutes")
    options.add_argument("--json", type=Path, help="write every figure here")
    chosen = options.parse_args()
    rounds = 5 if chosen.quick else 15
    found = {f"batch {size}": measure(size, rounds) for size in (1, 32)}
    print(f"XLM-R Base's shape, {TOKENS} tokens, float32, {torch.get_num_threads()} threads, {rounds} rounds")
    print(f"{'':10} {'':10} {'ms a call':>10} {'spread':>7} {'flops_share':>12} {'time_share':>11} {'realisation':>12}")
    for size, rows in found.items():
        for name, row in rows.items():
            numbers = f"{row['median_ms']:10.2f} {row['spread']:7.3f} {row['flops_share']:12.3f}"
            print(f"{size:10} {name:10} {numbers} {row['time_share']:11.3f} {row['realisation']:12.3f}")
    if chosen.json:
        chosen.json.write_text(json.dumps({"cores": os.cpu_count(), **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
