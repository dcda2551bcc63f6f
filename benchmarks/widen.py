"""A trained early-exit model at XLM-R Base's width that answers as it did: real decisions, a real layer's work.

    python benchmarks/widen.py MODEL OUT [--width 768] [--heads 12]

The models that are trained on two cores are so narrow that an exit costs about as much as the layer it spares, and say
nothing about what their exits would bring at the width of a model that is deployed. Here each channel is repeated and
each weight that reads it divided by the number of its copies. A LayerNorm of copies has the mean and variance of the
original, so every state is the old one repeated, and logits and exits are the old ones but for rounding
(Net2WiderNet, https://arxiv.org/abs/1511.05641, which draws at random whom to copy). The depth stays.

Prints the largest difference of a logit on random input. `halfling calibrate`, `export` and `costs` do the rest.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from halfling.models.classifier import load_classifier
from halfling.models.load import load_tokenizer
from halfling.tasks.task import read_task


def grow(weight: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return a linear layer's weight for outputs that copy `rows` of the old ones and inputs that copy `columns`."""
    return weight[rows][:, columns] / columns.bincount()[columns]


def head_channels(width: int, heads: int, old_width: int, old_heads: int) -> Tensor:
    """Return which old channel of query, key or value each new one copies: old heads in turn, each whole."""
    size, old_size = width // heads, old_width // old_heads
    if width % old_width or size % old_size or heads < old_heads:
        raise SystemExit(f"{heads} heads of {size} are not copies of {old_heads} heads of {old_size}")
    new = torch.arange(width)
    return (new // size % old_heads) * old_size + new % old_size


def widen(model: torch.nn.Module, width: int, heads: int) -> torch.nn.Module:
    """Return an early-exit model of `width` with the same answers."""
    old = model.config
    times = width // old.hidden_size
    inner = times * old.intermediate_size
    mixed = head_channels(width, heads, old.hidden_size, old.num_attention_heads)
    # The products of a head add up over its copies; query and key take the square root of the correction each.
    scale = ((width / heads) / (old.hidden_size / old.num_attention_heads)) ** -0.25
    across, within = torch.arange(width) % old.hidden_size, torch.arange(inner) % old.intermediate_size
    config = type(old)(
        **old.to_dict() | {"hidden_size": width, "intermediate_size": inner, "num_attention_heads": heads}
    )
    grown = {}
    for name, value in model.state_dict().items():
        if "embeddings.weight" in name:
            grown[name] = value[:, across]
            continue
        rows, columns, factor = across, across, 1.0
        if ".attention.self." in name:
            rows, factor = mixed, 1.0 if ".value." in name else scale
        elif ".attention.output.dense." in name:
            columns = mixed
        elif ".intermediate.dense." in name:
            rows = within
        elif ".output.dense." in name:
            columns = within
        elif len(value) == old.num_labels:  # classes stay what they are
            rows = torch.arange(old.num_labels)
        grown[name] = factor * (value[rows] if value.dim() == 1 else grow(value, rows, columns))
    wide = type(model)(config).eval()
    wide.load_state_dict(grown)
    return wide


def write_widened(model: Path, out: Path, width: int, heads: int) -> float:
    """Write a widened model with its tokenizer and task, and return the largest difference of a logit."""
    old = load_classifier(model).eval()
    wide = widen(old, width, heads)
    ids = torch.randint(4, old.config.vocab_size, (8, 32), generator=torch.Generator().manual_seed(0))
    exits = {"all_exits": True} if hasattr(old.config, "exit_layers") else {}
    with torch.inference_mode():
        answers = [each(ids, **exits) for each in (old, wide)]
    pairs = zip(*(one.exit_logits if exits else (one.logits,) for one in answers), strict=True)
    wide.save_pretrained(out)
    load_tokenizer(model).save_pretrained(out)
    if task := read_task(model):
        task.write(out)
    return max(float((a - b).abs().max()) for a, b in pairs)


def main() -> None:
    """Widen, compare, write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", type=Path, help="a classifier's or tagger's folder, plain or with exits")
    options.add_argument("out", type=Path)
    options.add_argument("--width", type=int, default=768)
    options.add_argument("--heads", type=int, default=12)
    chosen = options.parse_args()
    difference = write_widened(chosen.model, chosen.out, chosen.width, chosen.heads)
    print(f"largest difference of a logit: {difference:.1e}")


if __name__ == "__main__":
    main()
