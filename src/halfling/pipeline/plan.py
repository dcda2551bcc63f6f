"""From a recipe to its stages: what a whole run makes, from what, in which folders."""

from collections import Counter
from pathlib import Path

from halfling.errors import HalflingError
from halfling.evaluate.masked_lm import MaskedLMSettings
from halfling.export.gate import GateSettings
from halfling.export.write import ExportSettings
from halfling.pipeline.recipe import Recipe
from halfling.pipeline.stages import KINDS, place
from halfling.records import Settings
from halfling.stage import Input, Stage
from halfling.tasks.task import Task
from halfling.training.trim import TrimSettings

SAMPLE = "sample"
_REPORTED = ("calibrate", "costs", "masked-lm", "quality")


def plan(recipe: Recipe, folder: Path) -> list[Stage]:
    """Return the stages of a run in the order in which they can be run, all of them below `folder`.

    Raises:
        HalflingError: Two of them would make one folder.
    """
    stages = _Plan(recipe, folder).stages
    for out, number in Counter(stage.out for stage in stages).items():
        if number > 1:
            raise HalflingError(
                f"{recipe.name}: two models would be {out.relative_to(folder)}: rename a variant, or name each of "
                "models.seeds once"
            )
    return stages


class _Plan:
    """The stages of one recipe, in the making."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder, self.stages = recipe, folder, list[Stage]()
        if recipe.data == SAMPLE:
            self._add("sample", recipe.sample)
        corpus = self._add("corpus", recipe.corpus, source=self._place(recipe.text))
        tokenizer = self._add("tokenizer", recipe.tokenizer, corpus=corpus)
        self.packed = self._add("pack", recipe.pack, "", folder / "packed", corpus=corpus, tokenizer=tokenizer)
        teacher = self._add("teacher", recipe.teacher, packed=self.packed, tokenizer=tokenizer)
        if recipe.trim is not None:
            teacher = self._trim(recipe.trim, teacher, corpus)
        self.encoders = {"teacher": teacher}
        if recipe.models.scratch:
            self.encoders["scratch"] = teacher
        self.with_exits: list[str] = []
        self.earlier: list[str] = []
        self.distilled_by: dict[str, str] = {}
        self.to_distil = recipe.distill.each()
        self._name_students()
        if recipe.corpus.chunks > max(recipe.teacher.epochs, recipe.distill.epochs):
            self._masked_lm()
        for name, task in recipe.tasks.items():
            self.task = self._placed(task)
            for seed in recipe.models.seeds:
                measured: dict[str, Path] = {}
                for model in self._taking_part(seed):
                    measured |= self._plain(name, seed, model)
                    if model in self.with_exits:
                        measured |= self._exiting(name, seed, model)
                if recipe.report and seed == recipe.models.seeds[0]:
                    # Side by side, those of one seed.
                    self._add("costs", recipe.costs[name], name, models=measured)
        if recipe.report:
            reported = {stage.name: stage.out for stage in self.stages if stage.name.split("/")[0] in _REPORTED}
            self._add("report", recipe.report, **reported)

    def _add(
        self, kind: str, settings: Settings, within: str = "", out: Path | None = None, /, **inputs: Input
    ) -> Path:
        """Add a stage and return its folder, which is named as the stage unless `out` says another."""
        name = f"{kind}/{within}" if within else kind
        out = out or self.folder / name
        self.stages.append(KINDS[kind].stage(name, settings, out, inputs))
        return out

    def _trim(self, settings: TrimSettings, teacher: Path, corpus: Path) -> Path:
        """Trim the teacher, by the corpus where no languages are named, and pack with what is left of its tokenizer."""
        text: dict[str, Input] = {"corpus": corpus} if settings.languages is None else {}
        trimmed = self._add("trim", settings, model=teacher, **text)
        out = self.folder / "packed-trimmed"
        self.packed = self._add("pack", self.recipe.pack, "trimmed", out, corpus=corpus, tokenizer=trimmed)
        return trimmed

    def _name_students(self) -> None:
        """Name the students that are fine-tuned: of each layer map and variant, after the epochs that are asked for."""
        models = self.recipe.models
        epochs = sorted({*(models.student_epochs or (self.recipe.distill.epochs,))})
        for name in self.to_distil:
            # One student a layer map needs no epoch in its name.
            named = {f"student-{name}" + (f"-e{epoch}" if len(epochs) > 1 else ""): epoch for epoch in epochs}
            self.encoders |= {
                student: self.folder / "distill" / name / f"epoch-{epoch}" for student, epoch in named.items()
            }
            self.distilled_by |= dict.fromkeys(named, name)
            self.earlier += list(named)[:-1]
            if models.exits_on is None or name in models.exits_on:
                self.with_exits.append(list(named)[-1])

    def _encoder(self, name: str) -> Path:
        """Return an encoder, and distil it where it is the first of its students.

        Not sooner: a long run measures one student after another, and what was stopped has whole ones.
        """
        by = self.distilled_by.get(name)
        if by in self.to_distil:
            self._add("distill", self.to_distil.pop(by), by, teacher=self.encoders["teacher"], packed=self.packed)
        return self.encoders[name]

    def _taking_part(self, seed: int) -> list[str]:
        """Return the encoders that are fine-tuned with a seed."""
        slope = self.recipe.models.slope_seeds
        return [name for name in self.encoders if slope is None or seed in slope or name not in self.earlier]

    def _masked_lm(self) -> None:
        """Measure language models on the last chunk, which was never read: what are they worth on new text?"""
        for name in self.encoders:
            if name != "scratch":
                settings = MaskedLMSettings(model=name, chunk=self.recipe.corpus.chunks, seed=self.recipe.seed)
                self._add("masked-lm", settings, name, model=self._encoder(name), packed=self.packed)

    def _plain(self, task: str, seed: int, name: str) -> dict[str, Path]:
        """Add fine-tuning, exports and quality of one encoder, and return what was measured."""
        settings = self.recipe.finetune[task].of(name).model_copy(update={"seed": seed})
        imitated: dict[str, Input] = {}
        if settings.soft_share > 0:
            imitated["teacher"] = self._made("finetune", "teacher", task, seed)
        if settings.text_sequences:
            imitated["packed"] = self.packed
        within, encoder = f"{name}-{task}-{seed}", self._encoder(name)
        model = self._add("finetune", settings, within, encoder=encoder, task=self.task, **imitated)
        # What pretraining is worth needs no export.
        exported = {} if name == "scratch" else self._exports(within, model)
        return self._quality(task, seed, name, model, exported)

    def _exiting(self, task: str, seed: int, name: str) -> dict[str, Path]:
        """Add exits, calibration, exports and quality of one fine-tuned student, and return what was measured."""
        within, finetuned = f"{name}-{task}-{seed}", self._made("finetune", name, task, seed)
        settings = self.recipe.exits[task].model_copy(update={"seed": seed})
        text: dict[str, Input] = {"packed": self.packed} if settings.text_sequences else {}
        model = self._add("exits", settings, within, finetuned=finetuned, **text)
        policy = self._add("calibrate", self.recipe.calibrate[task], within, model=model)
        within = f"{name}-exits-{task}-{seed}"
        exported = self._exports(within, model) | self._exports(within, model, policy)
        return self._quality(task, seed, f"{name}-exits", model, exported)

    def _exports(self, within: str, model: Path, policy: Path | None = None) -> dict[str, Path]:
        """Add an export in each precision, without exits or with those of a policy, and return them by variant."""
        found = {}
        exports = self.recipe.export
        for precision in exports.precisions:
            variant = precision if policy is None else f"{precision}-exits"
            gate = {name: getattr(exports, name) for name in GateSettings.model_fields} if precision == "int8" else {}
            settings = ExportSettings(backends=exports.backends, precision=precision, **gate)
            chosen: dict[str, Input] = {} if policy is None else {"policy": policy}
            found[variant] = self._add("export", settings, f"{within}/{variant}", model=model, **chosen)
        return found

    def _quality(self, task: str, seed: int, name: str, model: Path, exported: dict[str, Path]) -> dict[str, Path]:
        """Measure a model's exports and, beside them, the model in PyTorch."""
        models = {f"{name}/{variant}": folder for variant, folder in exported.items()} | {f"{name}/pytorch": model}
        settings = self.recipe.quality[task].model_copy(update={"seed": seed})
        self._add("quality", settings, f"{name}-{task}-{seed}", models=models)
        return models

    def _made(self, kind: str, name: str, task: str, seed: int) -> Path:
        return self.folder / kind / f"{name}-{task}-{seed}"

    def _placed(self, task: Task) -> Task:
        """Return a task whose sources lie where the embedded sample is written."""

        def placed(source: str) -> str:
            return source if source.startswith("hub:") else str(self._place(source))

        sources = {split: getattr(task, split) for split in ("train", "dev")}
        return task.model_copy(
            update={split: {code: placed(one) for code, one in each.items()} for split, each in sources.items()}
        )

    def _place(self, value: str) -> Path | str:
        """Return where a recipe's path lies; the embedded sample is written below the run's own folder."""
        parts = Path(value).parts
        return self.folder.joinpath(*parts) if parts[:1] == (SAMPLE,) else place(value)
