"""Tables of a study: what each student scores beside another, over seeds and runs, and what exits leave of its work.

    python benchmarks/study.py RUN [RUN ...] [--task wikiann] [--reference uniform]

RUN is a folder of `halfling run recipes/study.yaml`, or a file of its scores; another run has another seed of
distillation. Scores are points of the model in PyTorch on whole dev. Of one student in one language, run and seed there
is one score, and the same of the reference: the test is Wilcoxon's signed-rank test of these pairs, two-sided. q is p
after Benjamini and Hochberg, over all students compared. Languages of one model are not independent of each other: p is
smaller than it should be, so a difference counts where q is small and all seeds agree.

flops_share and drop are of the exported student in int8 with exits, beside the same without: means over languages.
"""

import argparse
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from scipy.stats import false_discovery_control, wilcoxon

from halfling.errors import HalflingError
from halfling.results import Quality

_NAME = re.compile(r"student-(?P<student>.+?)(?:-e(?P<epoch>\d+))?(?P<exits>-exits)?")


class Place(NamedTuple):
    """Where a score stands: pairs have these in common."""

    run: str
    seed: int
    language: str


Scores = dict[Place, float]


class Student(NamedTuple):
    """What is known of a student after an epoch of its distillation (0: the only one that takes part)."""

    name: str
    epoch: int


class Exits(NamedTuple):
    """The arithmetic that is left with exits, and the points that they cost."""

    flops_share: float
    drop: float


def read(runs: Iterable[Path], task: str) -> list[tuple[str, Quality]]:
    """Return every measurement of a task, with the folder or file of its run.

    Raises:
        HalflingError: There is none, or a file is damaged.
    """
    found = [
        (str(run), record)
        for run in runs
        for path in ([run] if run.is_file() else sorted(run.glob("quality/*/quality.jsonl")))
        for record in Quality.read_lines(path)
        if record.task == task
    ]
    if not found:
        raise HalflingError(f"no quality of task {task} in these folders: run recipes/study.yaml, or name its folder")
    return found


def scores(records: Sequence[tuple[str, Quality]]) -> dict[Student, Scores]:
    """Return the points of each student in PyTorch, through all layers.

    Before it got exits where that was measured, else with them: training in two stages, which the recipe's WikiANN has,
    leaves the network as it was.
    """
    found: dict[Student, Scores] = {}
    for with_exits in (True, False):
        for run, one in records:
            said = _NAME.fullmatch(one.model)
            if said and bool(said["exits"]) == with_exits and one.runtime == "pytorch":
                place = Place(run, one.seed, one.language)
                found.setdefault(Student(said["student"], int(said["epoch"] or 0)), {})[place] = 100 * one.score
    return found


def exits(records: Sequence[tuple[str, Quality]]) -> dict[str, Exits]:
    """Return what exits leave of each exported student that has them."""
    both: dict[str, dict[bool, dict[Place, Quality]]] = {}
    for run, one in records:
        said = _NAME.fullmatch(one.model)
        if said and said["exits"] and one.runtime == "engine":
            by_place = both.setdefault(said["student"], {True: {}, False: {}})[one.exits]
            by_place[Place(run, one.seed, one.language)] = one
    found = {}
    for name, of in both.items():
        pairs = [(of[True][place], of[False][place]) for place in of[True] if place in of[False]]
        if pairs:
            shares, drops = zip(*((on.gflops / off.gflops, off.score - on.score) for on, off in pairs), strict=True)
            found[name] = Exits(mean(shares), 100 * mean(drops))
    return found


def differences(own: Mapping[Place, float], reference: Mapping[Place, float]) -> Scores:
    """Return the points above the reference, of each place that both have."""
    return {place: score - reference[place] for place, score in own.items() if place in reference}


def paired(own: Mapping[Place, float], reference: Mapping[Place, float]) -> tuple[float, float]:
    """Return the mean difference over the places that both have, in points, and the p of Wilcoxon's test.

    Raises:
        ValueError: They have no place in common.
    """
    gaps = [*differences(own, reference).values()]
    if not gaps:
        raise ValueError("expected scores of the same run, seed and language")
    return mean(gaps), float(wilcoxon(gaps).pvalue) if any(gaps) else 1.0


def each_seed(some: Mapping[Place, float]) -> list[float]:
    """Return the mean over languages of each seed of each run."""
    seeds = dict.fromkeys((place.run, place.seed) for place in some)
    return [mean(score for place, score in some.items() if place[:2] == seed) for seed in seeds]


def zero_shot(records: Sequence[tuple[str, Quality]]) -> set[str]:
    """Return the languages that no training saw labels of."""
    return {one.language for _, one in records if not one.trained_on}


def table(
    found: Mapping[Student, Scores], left: Mapping[str, Exits], reference: str, foreign: Collection[str] = ()
) -> str:
    """Return the students of the last epoch, best first, beside the reference; `foreign` are zero-shot languages.

    Raises:
        HalflingError: The reference is none of them.
    """
    last = max(student.epoch for student in found)
    those = {student.name: some for student, some in found.items() if student.epoch == last}
    if reference not in those:
        raise HalflingError(f"{reference}: no such student: there is {', '.join(those)}")
    compared = {name: paired(some, those[reference]) for name, some in those.items() if name != reference}
    corrected = false_discovery_control([p for _, p in compared.values()]) if compared else []
    q = dict(zip(compared, corrected, strict=True))
    lines = [
        f"| student | mean | zero-shot | spread | seeds | minus {reference} | agree | p | q | flops_share | drop |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, some in sorted(those.items(), key=lambda one: -mean(each_seed(one[1]))):
        seeds = each_seed(some)
        spread = f"{stdev(seeds):.2f}" if len(seeds) > 1 else "-"
        test = "| | |"
        if name in compared:
            gap, p = compared[name]
            alike = [part * gap > 0 for part in each_seed(differences(some, those[reference]))]
            test = f"{gap:+.2f} | {sum(alike)} of {len(alike)} | {p:.3f} | {q[name]:.3f}"
        after = f"{left[name].flops_share:.3f} | {left[name].drop:+.2f}" if name in left else "- | -"
        elsewhere = [score for place, score in some.items() if place.language in foreign]
        shown = f"{mean(elsewhere):.2f}" if elsewhere else "-"
        lines.append(f"| {name} | {mean(seeds):.2f} | {shown} | {spread} | {len(seeds)} | {test} | {after} |")
    return "\n".join(lines)


def epochs_table(found: Mapping[Student, Scores]) -> str:
    """Return the mean of each student after each epoch, over the places that all its epochs have."""
    epochs = sorted({student.epoch for student in found})
    lines = ["| student | " + " | ".join(f"epoch {epoch}" for epoch in epochs) + " |", "|---|" + "---:|" * len(epochs)]
    for name in dict.fromkeys(student.name for student in found):
        of = [found.get(Student(name, epoch), {}) for epoch in epochs]
        same = [place for place in of[0] if all(place in some for some in of)]
        if same:
            lines.append(
                f"| {name} | " + " | ".join(f"{mean(some[place] for place in same):.2f}" for some in of) + " |"
            )
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--task", default="wikiann")
    parser.add_argument("--reference", default="uniform", help="the student that all others are compared with")
    told = parser.parse_args()
    try:
        records = read(told.runs, told.task)
        found = scores(records)
        print(table(found, exits(records), told.reference, zero_shot(records)))
        if len({student.epoch for student in found}) > 1:
            print(f"\n{epochs_table(found)}")
    except HalflingError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
