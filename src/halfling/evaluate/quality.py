"""Quality of one model on one task in every language, with the arithmetic that its exits left over."""

from collections import Counter
from pathlib import Path

from pydantic import Field

from halfling.cost.flops import gmacs_linear
from halfling.evaluate.network import load_network, mean_gflops
from halfling.files import write_text
from halfling.fingerprint import reading
from halfling.languages import SETS
from halfling.models.load import load_tokenizer
from halfling.models.shapes import require_room, shape_of
from halfling.records import Counts, Progress, Quality, Seed, Settings, TaskName, silent
from halfling.tasks import TASKS
from halfling.tasks.predict import predict
from halfling.tasks.sources import labelled_files


class QualitySettings(Settings):
    """What is evaluated, and on how much."""

    model: str = Field(description="the model's name in the results")
    task: TaskName = Field(description='"xnli" or "wikiann"')
    languages: tuple[str, ...] = Field(
        SETS["thesis-6"], min_length=1, description="dev splits to answer, in this order"
    )
    max_tokens: int = Field(128, ge=8, description="longer inputs are cut; special tokens included")
    max_examples: int | None = Field(None, gt=0, description="only the first so many of each dev split; all")
    batch_size: int = Field(32, gt=0)
    seed: Seed = Field(0, description="of the fine-tuning that made the model")


@reading(data=labelled_files)
def measure_quality(
    *,
    settings: QualitySettings,
    model: Path,
    data: str | Path,
    out: Path,
    policy: Path | None = None,
    progress: Progress = silent,
) -> Counts:
    """Write `quality.jsonl`, a `records.Quality` for each language.

    `gflops` is the mean over examples at their real lengths, every exit that was computed counted;
    `gmacs_linear` is the thesis's convention at the mean exit layer.

    Returns:
        The headline score of each language.
    """
    task = TASKS[settings.task]
    network, tokenizer = load_network(settings.task, model, policy), load_tokenizer(model)
    require_room(network.config, settings.max_tokens, model)
    shape = shape_of(network.config)
    lines: list[Quality] = []
    for number, language in enumerate(settings.languages):
        progress(number, len(settings.languages), language)
        examples = task.read(data, "dev", language)[: settings.max_examples]
        encoded = task.encode(examples, tokenizer, settings.max_tokens)
        answers = predict(network, encoded, settings.batch_size)
        score = task.score(encoded.gold, answers.labels)
        left = answers.exits_taken
        mean_exit = sum(left) / len(left)
        lines.append(
            Quality(
                model=settings.model,
                task=settings.task,
                language=language,
                seed=settings.seed,
                num_examples=len(examples),
                accuracy=score.accuracy,
                f1=score.f1,
                mean_exit_layer=mean_exit,
                exit_histogram=dict(sorted(Counter(left).items())),
                gflops=mean_gflops(network, settings.task, answers),
                gmacs_linear=gmacs_linear(shape, layers=mean_exit),
            )
        )
    progress(len(lines), len(lines), "")
    write_text(out / "quality.jsonl", "".join(line.model_dump_json() + "\n" for line in lines))
    return {line.language: round(getattr(line, task.headline), 4) for line in lines}
