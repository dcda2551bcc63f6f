"""From a recipe to its stages: what a whole run makes, from what, in which folders."""

from pathlib import Path

from halfling.calibrate import calibrate
from halfling.corpus.build import build_corpus
from halfling.evaluate.costs import measure_costs
from halfling.evaluate.masked_lm import MaskedLMSettings, measure_masked_lm
from halfling.evaluate.quality import measure_quality
from halfling.pipeline.recipe import Recipe
from halfling.records import TaskName
from halfling.report.build import build_report
from halfling.sample.write import write_sample
from halfling.stage import Input, Stage
from halfling.tokens.pack import pack_corpus
from halfling.tokens.tokenizer import build_tokenizer
from halfling.training.distill import distill
from halfling.training.exits import train_exits
from halfling.training.finetune import finetune
from halfling.training.pretrain import build_teacher

SAMPLE = "sample"
_REPORTED = (calibrate, measure_costs, measure_masked_lm, measure_quality)


def plan(recipe: Recipe, folder: Path) -> list[Stage]:
    """Return the stages of a run in the order in which they can be run, all of them below `folder`."""
    corpus, tokenizer, packed, teacher = (folder / name for name in ("corpus", "tokenizer", "packed", "teacher"))
    stages = [
        Stage("corpus", build_corpus, recipe.corpus, corpus, {"source": _place(recipe.text, folder)}),
        Stage(
            "tokenizer",
            build_tokenizer,
            recipe.tokenizer,
            tokenizer,
            {"corpus": corpus, **source_folder(recipe.tokenizer.source)},
        ),
        Stage("pack", pack_corpus, recipe.pack, packed, {"corpus": corpus, "tokenizer": tokenizer}),
        Stage(
            "teacher",
            build_teacher,
            recipe.teacher,
            teacher,
            {"packed": packed, "tokenizer": tokenizer, **source_folder(recipe.teacher.source)},
        ),
    ]
    if recipe.data == SAMPLE:
        stages.insert(0, Stage("sample", write_sample, recipe.sample, folder / SAMPLE))
    encoders = {"teacher": teacher}
    if recipe.models.scratch:
        encoders["scratch"] = teacher
    with_exits = []
    epochs = recipe.models.student_epochs or (recipe.distill.epochs,)
    for name, settings in recipe.distill.each().items():
        out = folder / "distill" / name
        stages.append(Stage(f"distill/{name}", distill, settings, out, {"teacher": teacher, "packed": packed}))
        # One student a layer map needs no epoch in its name.
        named = {f"student-{name}" + (f"-e{epoch}" if len(epochs) > 1 else ""): epoch for epoch in epochs}
        encoders |= {student: out / f"epoch-{epoch}" for student, epoch in named.items()}
        if recipe.models.exits_on is None or name in recipe.models.exits_on:
            with_exits.append(list(named)[-1])
    if recipe.corpus.chunks > max(recipe.teacher.epochs, recipe.distill.epochs):
        # The last chunk was never read: it tells what the language models are worth where they were not trained.
        for name, model in encoders.items():
            if name != "scratch":
                held_out = MaskedLMSettings(model=name, chunk=recipe.corpus.chunks, seed=recipe.seed)
                read = {"model": model, "packed": packed}
                stages.append(
                    Stage(f"masked-lm/{name}", measure_masked_lm, held_out, folder / "masked-lm" / name, read)
                )
    for task in recipe.finetune:
        for seed in recipe.models.seeds:
            for name, encoder in encoders.items():
                stages += _plain(recipe, task, seed, name, encoder, folder)
            for name in with_exits:
                stages += _exiting(recipe, task, seed, name, folder)
        seed = recipe.models.seeds[0]
        finetuned = {name: _folder(folder, "finetune", name, task, seed) for name in encoders}
        early = {f"{name}-exits": _folder(folder, "exits", name, task, seed) for name in with_exits}
        policies = {f"{name}-exits": _folder(folder, "calibrate", name, task, seed) for name in with_exits}
        inputs: dict[str, Input] = {
            "models": finetuned | early,
            "policies": policies,
            "data": _data(recipe, folder),
        }
        out = folder / "costs" / task
        stages.append(Stage(f"costs/{task}", measure_costs, recipe.costs[task], out, inputs))
    reported = {stage.name: stage.out for stage in stages if stage.work in _REPORTED}
    stages.append(Stage("report", build_report, recipe.report, folder / "report", reported))
    return stages


def source_folder(source: str) -> dict[str, Path]:
    """Return the input that a setting `source` stands for when it names a folder here.

    Named as an input, the folder's content counts: another model in the same place makes the stage run again.
    """
    folder = Path(source)
    return {"source": folder} if source not in ("train", "scratch") and folder.is_dir() else {}


def _plain(recipe: Recipe, task: TaskName, seed: int, name: str, encoder: Path, folder: Path) -> list[Stage]:
    """Return fine-tuning and evaluation of one encoder."""
    out, data = _folder(folder, "finetune", name, task, seed), _data(recipe, folder)
    settings = recipe.finetune[task].model_copy(update={"seed": seed, "from_scratch": name == "scratch"})
    inputs: dict[str, Input] = {"encoder": encoder, "data": data}
    if name in ("teacher", "scratch"):
        settings = settings.model_copy(update={"soft_share": 0.0, "text_sequences": 0})
    elif settings.soft_share > 0:
        inputs["teacher"] = _folder(folder, "finetune", "teacher", task, seed)
    if settings.text_sequences:
        inputs["packed"] = folder / "packed"
    return [
        Stage(f"finetune/{out.name}", finetune, settings, out, inputs),
        _quality(recipe, task, seed, name, folder, {"model": out, "data": data}),
    ]


def _exiting(recipe: Recipe, task: TaskName, seed: int, name: str, folder: Path) -> list[Stage]:
    """Return exits, calibration and evaluation of one fine-tuned student."""
    finetuned, exits, policy = (
        _folder(folder, stage, name, task, seed) for stage in ("finetune", "exits", "calibrate")
    )
    data = _data(recipe, folder)
    settings = recipe.exits[task].model_copy(update={"seed": seed})
    read = {"model": exits, "data": data}
    return [
        Stage(f"exits/{exits.name}", train_exits, settings, exits, {"finetuned": finetuned, "data": data}),
        Stage(f"calibrate/{policy.name}", calibrate, recipe.calibrate[task], policy, read),
        _quality(recipe, task, seed, f"{name}-exits", folder, {**read, "policy": policy}),
    ]


def _quality(recipe: Recipe, task: TaskName, seed: int, name: str, folder: Path, inputs: dict[str, Input]) -> Stage:
    out = _folder(folder, "quality", name, task, seed)
    settings = recipe.quality[task].model_copy(update={"model": name, "seed": seed})
    return Stage(f"quality/{out.name}", measure_quality, settings, out, inputs)


def _folder(folder: Path, stage: str, name: str, task: TaskName, seed: int) -> Path:
    return folder / stage / f"{name}-{task}-{seed}"


def _data(recipe: Recipe, folder: Path) -> Path | str:
    return "hub" if recipe.data == "hub" else _place(recipe.data, folder)


def _place(place: str, folder: Path) -> Path | str:
    """Return where a recipe's path lies; the embedded sample is written below the run's own folder."""
    if "://" in place:
        return place
    first, *rest = Path(place).parts
    return folder.joinpath(SAMPLE, *rest) if first == SAMPLE else Path(place)
