"""Quality of models on a task in every language, as they are served, with the arithmetic that their exits saved."""

from collections import Counter
from pathlib import Path
from statistics import fmean

from pydantic import Field

from halfling import json_text
from halfling.bounds import Count, Seed, Size
from halfling.cost.flops import gmacs_linear
from halfling.errors import HalflingError
from halfling.evaluate.runtime import Engine, load_runtime, mean_gflops
from halfling.files import write_text
from halfling.records import Counts, Origin, Progress, Settings, json_lines, silent
from halfling.results import MeasuredDrop, NamedOrigin, Quality
from halfling.tasks.examples import dev_examples
from halfling.tasks.of_model import task_of
from halfling.tasks.score import score
from halfling.tasks.task import Task, read_task


class QualitySettings(Settings):
    """What is evaluated, and on how much."""

    languages: tuple[str, ...] | None = Field(
        None, min_length=1, description="dev splits to answer, in this order; all of the task's"
    )
    max_examples: Count | None = Field(None, gt=0, description="only the first so many of each dev split; all")
    batch_size: Size = Field(32, gt=0)
    seed: Seed = Field(0, description="of the fine-tuning that made the models")


def measure_quality(
    *,
    settings: QualitySettings,
    models: dict[str, Path],
    out: Path,
    task: Task | None = None,
    progress: Progress = silent,
) -> Counts:
    """Write the scores of models on the dev splits of their task: --model NAME=FOLDER.

    Each line of `quality.jsonl` is a `records.Quality`. A folder that `halfling export` wrote answers in the
    engine, a model's own folder in PyTorch. `gflops` is the mean over examples at their real lengths, every exit that
    was computed counted; `gmacs_linear` is the thesis's convention at the mean exit layer. What a converted model was
    made of is said in `origins.jsonl`, a `records.NamedOrigin` a line; what int8 cost when a folder was exported in
    `int8.jsonl`, a `records.MeasuredDrop` a line.

    Args:
        models: Name in the results (what follows a `/` in it tells variants of one model apart) -> folder.
        task: Data for the task that travels with the models.

    Returns:
        The task's own score of each model in each language.
    """
    lines: list[Quality] = []
    drops: list[MeasuredDrop] = []
    for name, folder in models.items():
        runtime = load_runtime(folder)
        whole = measured_task(folder, task, runtime.labels)
        if isinstance(runtime, Engine):
            drops += _drops(runtime, name, whole.name, settings.seed)
        split = dev_examples(whole, settings.languages or whole.languages, settings.max_examples)
        for language, examples in split.items():
            progress(len(lines), len(models) * len(split), f"{name} in {language}")
            reply = runtime.answer(examples, settings.batch_size, language)
            found = score(whole, examples, reply.answers)
            left = [one for _, layers in reply.computed for one in ([layers] if isinstance(layers, int) else layers)]
            mean_exit = fmean(left) if left else 0.0
            lines.append(
                Quality(
                    **runtime.form(name),
                    task=whole.name,
                    language=language,
                    seed=settings.seed,
                    trained_on=language in whole.train,
                    num_examples=len(examples),
                    metric=whole.metric or "accuracy",
                    score=found.value,
                    accuracy=found.accuracy,
                    f1=found.f1,
                    mean_exit_layer=mean_exit,
                    policy=reply.policy,
                    exit_histogram=dict(sorted(Counter(left).items())),
                    gflops=mean_gflops(runtime, reply, len(examples)),
                    gmacs_linear=gmacs_linear(runtime.shape, layers=mean_exit),
                )
            )
    progress(len(lines), len(lines), "")
    write_text(out / "quality.jsonl", json_lines(lines))
    if drops:
        write_text(out / "int8.jsonl", json_lines(drops))
    if origins := _origins(models):
        write_text(out / "origins.jsonl", json_lines(origins))
    return {
        f"{line.model} {line.runtime} {line.precision}{' exits' * line.exits}, {line.language}": round(line.score, 4)
        for line in lines
    }


def _drops(runtime: Engine, name: str, task: str, seed: int) -> list[MeasuredDrop]:
    """Return what int8 cost when a folder was exported, by backend and language."""
    exported, form = runtime.engine.exported, runtime.form(name)
    whose = {"model": form["model"], "task": task, "seed": seed, "exits": form["exits"]}
    return [MeasuredDrop(**dict(one), **whose, wide_layers=exported.wide_layers) for one in exported.int8]


def _origins(models: dict[str, Path]) -> list[NamedOrigin]:
    """Return what converted models were made of, as their configurations say."""
    found: dict[str, NamedOrigin] = {}
    for name, folder in models.items():
        path = folder / "config.json"
        said = json_text.read(path).get("origin") if path.is_file() else None
        if said:
            bare = name.partition("/")[0]
            found[bare] = NamedOrigin(name=bare, origin=Origin.model_validate(said))
    return list(found.values())


def measured_task(folder: Path, given: Task | None, labels: tuple[str, ...]) -> Task:
    """Return the task that a folder is measured on, its labels in the model's order.

    Raises:
        HalflingError: There is none, or it has other labels.
    """
    own = read_task(folder)
    if (folder / "config.json").is_file():
        return task_of(folder, given)
    if own is None:
        raise HalflingError(f"{folder}: no task travels with it: export the model again")
    return own.with_sources(given).model_copy(update={"labels": labels})
