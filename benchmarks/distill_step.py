"""A step of distillation at full size beside the usual way of it: tokens a second, peak memory, share of a GPU's peak.

    python benchmarks/distill_step.py [--packed FOLDER] [--blocks 8] [--rounds 5] [--json FILE] [--tiny]

XLM-R Large teaches XLM-R Base: full shapes, 250,002 pieces, random weights, the uniform map of 12 on 24 layers. Both
ways learn from the same sequences with the same parts of a loss, forward, backward and AdamW, in turns:

- ours: sequences packed into blocks of 512, the output layers at masked positions alone, the divergence in blocks;
- the usual way: a sequence a row, padded to the longest, logits at every position, one divergence over all of them.

Lengths are those of a packed corpus (`--packed`), else of the embedded sample's documents. Tokens are real ones:
padding does not count. A GPU computes in bfloat16 under autocast, a CPU in float32 (`--bfloat16` for autocast there).
A GPU's share of peak is the arithmetic that our step needs, by the tokens a second, by the peak named. On a CPU each
way's peak memory is that of a process of its own, which computes one step.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import XLMRobertaForMaskedLM

from halfling.cost.flops import flops
from halfling.cost.latency import paired_ratio
from halfling.cost.memory import peak_bytes, peak_bytes_of_this_process
from halfling.models.masked_lm import masked_features
from halfling.models.shapes import SHAPES, config_for
from halfling.pipeline.estimate import PEAK_TFLOPS
from halfling.records import EncoderShape
from halfling.tokens.blocks import Block, PackedBlocks
from halfling.tokens.masking import mask_block
from halfling.training.distilled import DistilledMaskedLM, TeacherTargets
from halfling.training.layer_losses import hidden_state_loss
from halfling.training.layer_maps import layer_map
from halfling.training.losses import OutputLayer, kl_divergence
from halfling.training.objective import Objective

TINY = {
    "xlm-roberta-large": EncoderShape(
        num_layers=4, width=64, num_heads=4, ffn_width=256, vocab_size=1002, max_tokens=512
    ),
    "xlm-roberta-base": EncoderShape(
        num_layers=2, width=48, num_heads=4, ffn_width=192, vocab_size=1002, max_tokens=512
    ),
}
BLOCK = 512
Batch = dict[str, Tensor]


def packed_blocks(folder: Path, number: int) -> list[Block]:
    """Return blocks from all over the first chunk of a packed corpus."""
    chunk = PackedBlocks(folder / "chunk-1")
    return [chunk[int(place)] for place in np.linspace(0, len(chunk) - 1, number)]


def sample_blocks(number: int) -> list[Block]:
    """Return blocks of random ids whose sequences are as long as the embedded sample's documents."""
    from workload import data_folder, tokenizers

    from halfling.corpus.sources.cc100 import read_documents
    from halfling.tokens.packer import Packer

    with tempfile.TemporaryDirectory() as scratch:
        data = data_folder(Path(scratch) / "absent", Path(scratch) / "sample")
        (tokenizer,) = tokenizers(data, 5002)
        packer, found, random = Packer("any", BLOCK), [], np.random.default_rng(0)
        texts = [text for file in sorted(data.glob("cc100*/*.txt.xz")) for text in read_documents(file)]
        for text in random.permutation(np.array(texts, object)):
            ids = np.array(tokenizer(text, add_special_tokens=False).input_ids, np.int32)
            run = packer.add(ids, np.array([len(ids)], np.int64))
            found += [
                Block(row, run.starts[run.offsets[n] : run.offsets[n + 1]].astype(np.int32))
                for n, row in enumerate(run.input_ids)
            ]
            if len(found) >= number:
                return found[:number]
    raise SystemExit(f"the sample has {len(found)} blocks, not {number}")


def masked(blocks: list[Block], vocab_size: int) -> list[Batch]:
    """Return blocks as training reads them, ids folded into the vocabulary."""
    random = np.random.default_rng(1)
    folded = [
        Block(np.where(one.input_ids < 4, one.input_ids, 4 + one.input_ids % (vocab_size - 5)), one.starts)
        for one in blocks
    ]
    return [mask_block(one, random, mask_share=0.15, mask_id=vocab_size - 1, vocab_size=vocab_size) for one in folded]


def together(rows: list[Batch], device: torch.device) -> Batch:
    """Return our batch: blocks."""
    return {name: torch.stack([row[name] for row in rows]).to(device) for name in rows[0]}


def apart(rows: list[Batch], device: torch.device) -> Batch:
    """Return the usual batch of the same sequences: each a row, padded to the longest."""
    ids = [
        row["input_ids"][row["sequence_ids"] == number]
        for row in rows
        for number in range(1, int(row["sequence_ids"].max()) + 1)
    ]
    padded = pad_sequence(ids, batch_first=True, padding_value=1)
    mask = pad_sequence([torch.ones_like(one) for one in ids], batch_first=True)
    return {"input_ids": padded.to(device), "attention_mask": mask.to(device)}


class Step:
    """Teacher, student and optimiser, and both ways of a step."""

    def __init__(self, shapes: dict[str, EncoderShape], device: torch.device, bfloat16: bool) -> None:
        large, base = shapes["xlm-roberta-large"], shapes["xlm-roberta-base"]
        self.pairs = layer_map("uniform", base.num_layers, large.num_layers)
        with device:  # weights are drawn where they are used
            self.teacher = XLMRobertaForMaskedLM(config_for(large)).eval().requires_grad_(False)
            self.student = DistilledMaskedLM(config_for(base), range(1, base.num_layers + 1), large.width).train()
        self.optimizer = torch.optim.AdamW(self.student.parameters(), lr=1e-5, fused=device.type == "cuda")
        self.cast = (lambda: torch.autocast(device.type, torch.bfloat16)) if bfloat16 else nullcontext

    def ours(self, batch: Batch) -> Tensor:
        """Return our loss."""
        with torch.no_grad(), self.cast():
            theirs = masked_features(self.teacher, **batch, hidden_states=True)
        decoder = self.teacher.lm_head.decoder
        targets = TeacherTargets(
            hidden_states={layer: theirs.hidden_states[layer] for _, layer in self.pairs},
            output=OutputLayer(theirs.features, decoder.weight, decoder.bias),
        )
        objective = Objective(terms=("hidden", "kl"))
        with self.cast():
            parts = self.student(**batch, targets=targets, objective=objective, pairs=self.pairs)
            return parts["hidden"] + parts["kl"]

    def usual(self, batch: Batch) -> Tensor:
        """Return the loss of a script that takes what `transformers` gives."""
        keep = batch["attention_mask"].bool()
        with torch.no_grad(), self.cast():
            theirs = self.teacher(**batch, output_hidden_states=True)
        with self.cast():
            own = XLMRobertaForMaskedLM.forward(self.student, **batch, output_hidden_states=True)
            gaps = [
                hidden_state_loss(self.student._projected(s, own.hidden_states[s]), theirs.hidden_states[t], keep)
                for s, t in self.pairs
            ]
            return torch.stack(gaps).mean() + kl_divergence(own.logits[keep], theirs.logits[keep])

    def __call__(self, loss_of: Callable[[Batch], Tensor], batch: Batch) -> None:
        """Learn from a batch."""
        loss_of(batch).backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()


def needed(shapes: dict[str, EncoderShape], rows: list[Batch]) -> float:
    """Return the operations that our step needs: the teacher once, the student three times, heads where masked."""
    lengths = [int(n) for row in rows for n in row["sequence_ids"].bincount()[1:]]
    total = 0.0
    answers = sum(int((row["labels"] != -100).sum()) for row in rows)
    for name, times in (("xlm-roberta-large", 1), ("xlm-roberta-base", 3)):
        shape = shapes[name]
        total += times * flops(shape, lengths, [shape.num_layers] * len(lengths)).total
        total += times * 2 * answers * shape.width * (shape.width + shape.vocab_size)
    return total


def peak_of(card: str) -> float | None:
    """Return the dense bfloat16 operations a second that a card's maker names, if it is a card that we know."""
    return next((1e12 * rate for name, rate in PEAK_TFLOPS.items() if name in card.lower()), None)


def wait(device: torch.device) -> None:
    """Wait until a GPU has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def matmul_rate(device: torch.device) -> float:
    """Return the operations a second of a bfloat16 product of 8192 x 8192 x 8192."""
    one, other = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        one @ other
    wait(device)
    start = time.perf_counter()
    for _ in range(20):
        one @ other
    wait(device)
    return 20 * 2 * 8192**3 / (time.perf_counter() - start)


def timed(step: Step, ways: dict[str, tuple[Any, Batch]], device: torch.device, rounds: int) -> dict[str, Any]:
    """Return each way's seconds, round by round, and its peak memory on a GPU, in bytes."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    peaks: dict[str, int] = {}
    for turn in range(rounds + 2):  # the first two: libraries set themselves up, memory is taken
        for name, (loss_of, batch) in ways.items():
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            wait(device)
            start = time.perf_counter()
            step(loss_of, batch)
            wait(device)
            took = time.perf_counter() - start
            if turn >= 2 or device.type == "cpu":
                seconds[name].append(took)
            if device.type == "cuda":
                peaks[name] = torch.cuda.max_memory_allocated()
        if device.type == "cpu" and turn + 1 >= rounds:
            break
    return {"seconds": seconds, "peaks": peaks}


def cpu_peak(arguments: argparse.Namespace, way: str) -> int:
    """Return the peak resident size of a process that computes one step one way."""
    told = ["--only", way, "--blocks", str(arguments.blocks)] + ["--tiny"] * arguments.tiny
    told += ["--packed", str(arguments.packed)] if arguments.packed else []
    told += ["--bfloat16"] * arguments.bfloat16
    return peak_bytes([sys.executable, __file__, *told])


def compare(
    step: Step, shapes: dict[str, EncoderShape], rows: list[Batch], names: tuple[str, ...], arguments: Any, device: Any
) -> dict[str, Any]:
    """Measure one size of batch, and print it."""
    makes = {"ours": (step.ours, together), "usual": (step.usual, apart)}
    ways = {name: (makes[name][0], makes[name][1](rows, device)) for name in names}
    tokens = sum(int((row["sequence_ids"] > 0).sum()) for row in rows)
    found = timed(step, ways, device, arguments.rounds)
    work = needed(shapes, rows)
    peak = peak_of(arguments.card)
    lines = {}
    for name, took in found["seconds"].items():
        memory = found["peaks"].get(name) or arguments.peaks[name]
        rate, padded = tokens / median(took), ways[name][1]["input_ids"].numel()
        share = f"{work / median(took) / peak:.1%}" if peak else "-"
        shape = "x".join(map(str, ways[name][1]["input_ids"].shape))
        print(
            f"| {name} | {tokens:,} | {shape} | {tokens / padded:.2f} | {rate:,.0f} | {memory / 2**30:.2f} | {share} |"
        )
        lines[name] = {
            "tokens": tokens,
            "shape": shape,
            "tokens_a_second": rate,
            "peak_bytes": memory,
            "of_peak": share,
        }
    if len(names) == 2:
        ratio = paired_ratio(found["seconds"]["usual"], found["seconds"]["ours"])
        less = lines["ours"]["peak_bytes"] / lines["usual"]["peak_bytes"]
        print(
            f"\nours is {ratio.median:.2f} times as fast [{ratio.lower:.2f}, {ratio.upper:.2f}] "
            f"and takes {less:.2f} of the peak memory\n",
            flush=True,
        )
        lines["ratio"] = ratio.model_dump() | {"memory": less}
    return lines


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure, and print as it comes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = device.type == "cuda"
    torch.manual_seed(0)
    shapes = TINY if arguments.tiny else SHAPES
    most = arguments.blocks * (4 if on_gpu else 1)
    blocks = packed_blocks(arguments.packed, most) if arguments.packed else sample_blocks(most)
    rows = masked(blocks, shapes["xlm-roberta-large"].vocab_size)
    bfloat16 = on_gpu or arguments.bfloat16
    # Before this process takes memory of its own: both may not fit.
    arguments.peaks = {} if on_gpu or arguments.only else {way: cpu_peak(arguments, way) for way in ("ours", "usual")}
    step = Step(shapes, device, bfloat16)
    if arguments.only:
        loss_of, batch = (step.ours, together) if arguments.only == "ours" else (step.usual, apart)
        step(loss_of, batch(rows[: arguments.blocks], device))
        print(json.dumps({"peak_bytes": peak_bytes_of_this_process()}))
        return {}
    arguments.card = torch.cuda.get_device_name() if on_gpu else "cpu"
    found: dict[str, Any] = {"card": arguments.card, "torch": torch.__version__}
    print(f"{arguments.card}, torch {torch.__version__}, {'bfloat16 autocast' if bfloat16 else 'float32'}; ", end="")
    print(f"lengths of {'a packed corpus' if arguments.packed else 'the embedded sample'}; random weights")
    if on_gpu:
        found["matmul"] = matmul_rate(device)
        named = peak_of(arguments.card) or 0
        print(
            f"peak named by the maker {named / 1e12:.0f} TFLOP/s dense bfloat16; "
            f"a product of 8192^3 runs at {found['matmul'] / 1e12:.0f}"
        )
    print("\n| way | real tokens a step | batch | real share | tokens/s | peak GiB | share of peak |")
    print("|---|---:|---|---:|---:|---:|---:|", flush=True)
    sizes = [arguments.blocks]
    while sizes[-1] > 1 and on_gpu:
        sizes.append(sizes[-1] // 2)
    for size in sizes:  # the usual way may not fit
        try:
            found["compared"] = compare(step, shapes, rows[:size], ("ours", "usual"), arguments, device)
            break
        except torch.OutOfMemoryError as error:
            print(f"\n{size} blocks: out of memory ({str(error).splitlines()[0]})\n", flush=True)
        step.optimizer.zero_grad()
        gc.collect()
        torch.cuda.empty_cache()
    if on_gpu:
        for size in (2 * arguments.blocks, 4 * arguments.blocks):
            try:
                found[f"ours, {size} blocks"] = compare(step, shapes, rows[:size], ("ours",), arguments, device)
            except torch.OutOfMemoryError:
                traceback.print_exc()
                break
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packed", type=Path, help="a packed corpus, whose lengths are taken")
    parser.add_argument("--blocks", type=int, default=8, help="of 512 tokens, a step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bfloat16", action="store_true", help="on a CPU: autocast; on a GPU it always is")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, to try the script")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=("ours", "usual"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    result = run(given)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1))
