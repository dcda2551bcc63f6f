r"""How should exits learn? What each way does to the network without exits, and what exits of it save and lose.

    python benchmarks/exit_training.py runs/real/finetune/student-uniform-e5-wikiann-* --packed runs/real/packed \\
        --layers 2,3,4 --out runs/exit-training [--jobs 2]

Each model is a fine-tuned student with its task, one a seed. It gets exits in every way below, a policy that leaves
`--flops-share` of the arithmetic on English dev, and an export; all are stages below `--out`, so a killed run goes on.

- network: the model in PyTorch with exits off, less the model before it had exits, in points.
- exits: int8 with exits less the same model in PyTorch without, in points: what int8 costs is in it.
- share: flops_share of the exported model.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from halfling.calibrate.settings import CalibrateSettings
from halfling.cli.view import LiveView
from halfling.evaluate.quality import QualitySettings
from halfling.export.write import ExportSettings
from halfling.pipeline.side_by_side import run_side_by_side
from halfling.pipeline.stages import KINDS
from halfling.records import Settings
from halfling.results import Quality
from halfling.stage import Input, Stage
from halfling.tasks.of_model import task_of
from halfling.training.exits import ExitsSettings

CHANGES: dict[str, dict[str, Any]] = {
    "English labels": {},
    "labels and text": {"text": True},
    "text alone": {"text": True, "soft_share": 1.0},
    "text, the teacher's answers": {"text": True, "teacher": True},
    "labels and text, three epochs": {"text": True, "epochs": 3},
}
WAYS: dict[str, dict[str, Any]] = {
    f"{method}, {name}": {"method": method, **changes}
    for name, changes in CHANGES.items()
    for method in ("joint", "two_stage")
}
"""What differs; text is of the task's languages, without labels. "text alone": English sentences without theirs too."""


class Way(NamedTuple):
    """Where the measurements of a way and seed lie."""

    name: str
    seed: int
    quality: Path


def plan(given: argparse.Namespace) -> tuple[list[Stage], list[Way]]:
    """Return all stages in their order, and where results will lie; the way "before" has no exits."""
    stages: list[Stage] = []

    def add(kind: str, within: str, settings: Settings, **inputs: Input) -> Path:
        out: Path = given.out / kind / within
        stages.append(KINDS[kind].stage(f"{kind}/{within}", settings, out, inputs))
        return out

    ways = []
    for seed, model in enumerate(given.models):
        before = add("quality", f"before-{seed}", QualitySettings(), models={"before/pytorch": model})
        ways.append(Way("before", seed, before))
        for name, changes in WAYS.items():
            own = dict(changes)
            text, taught = (bool(own.pop(one, False)) for one in ("text", "teacher"))
            unasked = given.ways and name not in given.ways
            if unasked or (text and task_of(model).kind != "tagging") or (taught and not given.teachers):
                continue
            within = f"{re.sub('[^a-z_]+', '-', name.lower())}-{seed}"
            common = {
                "epochs": 1,
                "soft_share": 0.9,
                "freeze_embeddings": True,
                "precision": "bfloat16",
                "layers": given.layers,
            }
            settings = ExitsSettings(**{**common, **own, "text_sequences": 12_000 * text, "seed": seed})
            more: dict[str, Input] = {"packed": given.packed} if text else {}
            more |= {"teacher": given.teachers[seed]} if taught else {}
            made = add("exits", within, settings, finetuned=model, **more)
            asked = CalibrateSettings(flops_share=given.flops_share, timing="none")
            policy = add("calibrate", within, asked, model=made)
            served = add("export", within, ExportSettings(max_int8_drop=None), model=made, policy=policy)
            models = {"model/pytorch": made, "model/int8-exits": served}
            ways.append(Way(name, seed, add("quality", within, QualitySettings(), models=models)))
    return stages, ways


def scores(way: Way, exits: bool) -> dict[str, Quality]:
    """Return what was measured by language."""
    lines = Quality.read_lines(way.quality / "quality.jsonl")
    return {line.language: line for line in lines if line.exits == exits}


def table(ways: Sequence[Way], trained: Sequence[str]) -> str:
    """Return a line for each way: means over seeds, with their standard deviation in zero-shot means."""
    before = {way.seed: scores(way, exits=False) for way in ways if way.name == "before"}
    codes = [*next(iter(before.values()))]
    zero_shot = [code not in trained for code in codes]
    lines = [
        f"| way | network: {', '.join(codes)} | zero-shot | exits: English | zero-shot | share: English | zero-shot |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name in WAYS:
        network, lost, share = [], [], []
        for way in (each for each in ways if each.name == name):
            plain, served = scores(way, exits=False), scores(way, exits=True)
            network.append([100 * (plain[code].score - before[way.seed][code].score) for code in codes])
            lost.append([100 * (served[code].score - plain[code].score) for code in codes])
            share.append([served[code].gflops / plain[code].gflops for code in codes])
        if not network:
            continue
        means = [np.mean(np.array(each)[:, zero_shot], axis=1) for each in (network, lost, share)]
        spreads = [f" ± {each.std(ddof=1):.2f}" if len(each) > 1 else "" for each in means]
        english = [np.array(each)[:, np.logical_not(zero_shot)].mean() for each in (lost, share)]
        cells = [
            ", ".join(f"{value:+.1f}" for value in np.mean(network, axis=0)),
            f"{means[0].mean():+.2f}{spreads[0]}",
            f"{english[0]:+.2f}",
            f"{means[1].mean():+.2f}{spreads[1]}",
            f"{english[1]:.3f}",
            f"{means[2].mean():.3f}{spreads[2]}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is not done yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--packed", type=Path, required=True)
    parser.add_argument("--teachers", type=Path, nargs="*", default=[], help="fine-tuned teachers, one a seed")
    parser.add_argument("--layers", type=lambda said: tuple(map(int, said.split(","))), required=True)
    parser.add_argument("--flops-share", type=float, default=0.686)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ways", nargs="*", choices=[*WAYS], help="of those that are compared; all")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    stages, ways = plan(given)
    with LiveView(len(stages)) as view:
        run_side_by_side(stages, view, given.jobs)
    print(table(ways, task_of(given.models[0]).source_languages))


if __name__ == "__main__":
    main()
