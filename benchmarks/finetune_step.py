"""A step of fine-tuning on a CPU beside transformers' own: how much longer does that take?

    python benchmarks/finetune_step.py [--layers 12] [--width 384] [--rounds 15] [--float32]

A tagger with random weights and dropout of 0.1, word embeddings frozen, forward, backward and AdamW, in turns:

- ours: attention and dropout of `models/on_cpu.py`;
- transformers with `attn_implementation="sdpa"`, its default, and with "eager".

Batches are as long as WikiANN's sentences (32 of 24 tokens), packed text's (16 of 64) and XNLI's pairs (32 of 48).
"""

import argparse
from collections.abc import Callable

import torch
from transformers import XLMRobertaForTokenClassification

from halfling.cost.latency import interleaved, paired_ratio
from halfling.models.on_cpu import computing_on_cpu
from halfling.models.shapes import Dimensions, config_for

BATCHES = ((32, 24), (16, 64), (32, 48))
"""Sentences and their tokens, of which the shorter half has a quarter fewer."""


def step_of(kind: str, shape: Dimensions, batch: tuple[int, int], precise: bool) -> Callable[[], None]:
    """Return a call that learns from one batch."""
    torch.manual_seed(0)
    config = config_for(shape.with_vocabulary(32_000))
    config.num_labels = 7
    model = XLMRobertaForTokenClassification(config).train()
    model.get_input_embeddings().weight.requires_grad_(False)
    if kind == "ours":
        computing_on_cpu(model)
    else:
        model.set_attn_implementation(kind)
    learning = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(learning, fused=True)
    sentences, tokens = batch
    ids = torch.randint(4, 32_000, batch)
    there = torch.ones_like(ids)
    there[: sentences // 2, -tokens // 4 :] = 0
    labels = torch.randint(0, 7, batch).where(there.bool(), -100)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
            loss = model(ids, attention_mask=there, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    """Print a line for each batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--float32", action="store_true", help="no bfloat16")
    given = parser.parse_args()
    shape = Dimensions(num_layers=given.layers, width=given.width, num_heads=given.width // 32, max_tokens=128)
    print(f"{torch.get_num_threads()} threads, {'float32' if given.float32 else 'bfloat16'}")
    print("| batch | ours, tokens a second | sdpa / ours | eager / ours |\n| --- | ---: | ---: | ---: |")
    for batch in BATCHES:
        calls = {kind: step_of(kind, shape, batch, given.float32) for kind in ("ours", "sdpa", "eager")}
        seconds = interleaved(calls, rounds=given.rounds, warmup=2)
        ours = sorted(seconds["ours"])[len(seconds["ours"]) // 2]
        ratios = [paired_ratio(seconds[kind], seconds["ours"]) for kind in ("sdpa", "eager")]
        said = " | ".join(f"{one.median:.2f} [{one.lower:.2f}, {one.upper:.2f}]" for one in ratios)
        print(f"| {batch[0]} x {batch[1]} | {batch[0] * batch[1] / ours:,.0f} | {said} |", flush=True)


if __name__ == "__main__":
    main()
