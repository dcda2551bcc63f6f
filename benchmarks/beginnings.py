"""How much of what its teacher's layers say does a student say before it has learned a step, by its beginning?

    python benchmarks/beginnings.py TEACHER PACKED [--width 288] [--layers 6] [--heads 12] [--fit-tokens 10000 100000]

TEACHER is a folder with an XLM-R, PACKED a corpus packed with its tokenizer. Of each student layer and the teacher
layer that the uniform map pairs it with: the share of the variance of the teacher's states that a linear map of the
student's explains (R²), fitted on some text of all languages and read on other text. `layers` needs equal widths. What
is fitted reads other text again.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import default_collate
from transformers import XLMRobertaForMaskedLM, set_seed

from halfling.errors import HalflingError
from halfling.models.load import load_masked_lm
from halfling.models.masked_lm import masked_features
from halfling.models.shapes import Dimensions, config_for, require_room
from halfling.settings import check
from halfling.tokens.blocks import PAD, PackedBlocks, PackedSummary
from halfling.training.fit import fit_layers
from halfling.training.initialise import Start, begin
from halfling.training.layer_maps import layer_map
from halfling.training.subclone import require_part

JUDGED_TOKENS = 16_384
CALIBRATION_TOKENS = 4096
Batch = dict[str, Tensor]


def rows(packed: Path, tokens: int, skip: int = 0) -> Batch:
    """Return so many tokens of a packed corpus's first chunk, a block of each language in turn.

    `skip` leaves out what so many tokens have read.

    Raises:
        HalflingError: It holds fewer.
    """
    files = [PackedBlocks(path) for path in sorted((packed / "chunk-1").glob("*.arrow"))]
    blocks = (file[n] for n in range(max(map(len, files))) for file in files if n < len(file))
    found, left_out = [], skip
    for block in blocks:
        left_out -= len(block.input_ids)
        if left_out < 0:
            ids = torch.from_numpy(block.input_ids.astype("int64"))
            sequences = torch.zeros_like(ids)
            sequences[torch.from_numpy(block.starts.astype("int64"))] = 1
            found.append(
                {
                    "input_ids": ids,
                    "sequence_ids": sequences.cumsum(0).where(ids != PAD, 0),
                    "labels": torch.full_like(ids, -100),
                }
            )
        if len(found) * len(block.input_ids) >= tokens:
            return default_collate(found)  # type: ignore[no-any-return]
    raise HalflingError(
        f"{packed}: chunk-1 holds fewer than {skip + tokens} tokens: give a larger corpus, or less to --fit-tokens"
    )


@torch.no_grad()
def states(model: XLMRobertaForMaskedLM, batch: Batch) -> list[Tensor]:
    """Return the states of the embeddings and of every layer, padding left out."""
    said = masked_features(model.eval(), **batch, hidden_states=True)
    return [layer[batch["sequence_ids"] > 0].double() for layer in said.hidden_states]


def explained(own: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> float:
    """Return R² on the second half of each of a linear map that was fitted on the first."""
    ones = [torch.cat([half, half.new_ones(len(half), 1)], dim=1) for half in own]
    said = ones[1] @ torch.linalg.lstsq(ones[0], theirs[0], driver="gelsd").solution
    missed = (said - theirs[1]).square().sum()
    return 1 - (missed / (theirs[1] - theirs[1].mean(dim=0)).square().sum()).item()


def students(
    teacher: XLMRobertaForMaskedLM, shape: Dimensions, packed: Path, fit_tokens: Sequence[int]
) -> Iterator[tuple[str, float, XLMRobertaForMaskedLM]]:
    """Yield the name, seconds and student of each beginning."""
    pairs = layer_map("uniform", shape.num_layers, teacher.config.num_hidden_layers)
    alike = shape.width == teacher.config.hidden_size
    starts: list[Start] = ["random", "embeddings", "layers" if alike else "subclone"]
    for start in starts:
        for tokens in (0, *fit_tokens) if start in ("layers", "subclone") else (0,):
            set_seed(0)
            config = config_for(shape.with_vocabulary(teacher.config.vocab_size), dropout=0.0)
            config.update({name: getattr(teacher.config, name) for name in ("layer_norm_eps", "hidden_act")})
            student = XLMRobertaForMaskedLM(config)
            began = time.perf_counter()
            parts = begin(start, student, teacher, pairs, rows(packed, CALIBRATION_TOKENS, 2 * JUDGED_TOKENS))
            if parts and tokens:
                fit_layers(student, teacher, parts, rows(packed, tokens, 2 * JUDGED_TOKENS))
            yield start + (f", fitted on {tokens:,} tokens" if tokens else ""), time.perf_counter() - began, student


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", type=Path, metavar="TEACHER")
    parser.add_argument("packed", type=Path, metavar="PACKED")
    for name, default in (("width", 288), ("layers", 6), ("heads", 12)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--fit-tokens", type=int, nargs="*", default=[10_000, 100_000])
    told = parser.parse_args()
    try:
        if any(tokens < 1 for tokens in told.fit_tokens):
            raise HalflingError("--fit-tokens: give 1 or more")
        summary = PackedSummary.read(told.packed / "corpus.json")
        teacher, _ = load_masked_lm(XLMRobertaForMaskedLM, told.teacher)
        room = teacher.config.max_position_embeddings - 2
        said = {"num_layers": told.layers, "width": told.width, "num_heads": told.heads, "max_tokens": room}
        shape = check(Dimensions, said, "the student")
        pairs = [(0, 0), *layer_map("uniform", told.layers, teacher.config.num_hidden_layers)]
        require_part(config_for(shape.with_vocabulary(teacher.config.vocab_size)), teacher.config)
        require_room(teacher.config, summary.block_tokens, "the teacher", "block_tokens")
        if summary.vocab_size != teacher.config.vocab_size:
            raise HalflingError(
                f"{told.packed}: packed with {summary.vocab_size} pieces: pack with the teacher's tokenizer"
            )
        rows(told.packed, max(CALIBRATION_TOKENS, *told.fit_tokens, 0), 2 * JUDGED_TOKENS)  # so many are there
        text = rows(told.packed, JUDGED_TOKENS), rows(told.packed, JUDGED_TOKENS, JUDGED_TOKENS)
        theirs = [states(teacher, half) for half in text]
        print("| beginning | seconds |" + "".join(f" {own} of {other} |" for own, other in pairs), flush=True)
        print("|---|---:|" + "---:|" * len(pairs), flush=True)
        for name, seconds, student in students(teacher, shape, told.packed, told.fit_tokens):
            own = [states(student, half) for half in text]
            shares = [
                explained((own[0][mine], own[1][mine]), (theirs[0][other], theirs[1][other])) for mine, other in pairs
            ]
            print(f"| {name} | {seconds:.1f} |" + "".join(f" {share:.3f} |" for share in shares), flush=True)
    except (HalflingError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
