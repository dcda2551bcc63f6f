"""From a recipe to its stages: what a whole run makes, from what, in which folders."""

from pathlib import Path

from halfling.evaluate.masked_lm import MaskedLMSettings
from halfling.pipeline.recipe import Recipe
from halfling.pipeline.stages import KINDS, place
from halfling.records import Settings, TaskName
from halfling.stage import Input, Stage

SAMPLE = "sample"
_REPORTED = ("calibrate", "costs", "masked-lm", "quality")


def plan(recipe: Recipe, folder: Path) -> list[Stage]:
    """Return the stages of a run in the order in which they can be run, all of them below `folder`."""
    return _Plan(recipe, folder).stages


class _Plan:
    """The stages of one recipe, in the making."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder, self.stages = recipe, folder, list[Stage]()
        self.data = self._place(recipe.data)
        if recipe.data == SAMPLE:
            self._add("sample", recipe.sample)
        corpus = self._add("corpus", recipe.corpus, source=self._place(recipe.text))
        tokenizer = self._add("tokenizer", recipe.tokenizer, corpus=corpus)
        self.packed = self._add("pack", recipe.pack, "", folder / "packed", corpus=corpus, tokenizer=tokenizer)
        teacher = self._add("teacher", recipe.teacher, packed=self.packed, tokenizer=tokenizer)
        self.encoders = {"teacher": teacher}
        if recipe.models.scratch:
            self.encoders["scratch"] = teacher
        self.with_exits: list[str] = []
        self._distill(teacher)
        if recipe.corpus.chunks > max(recipe.teacher.epochs, recipe.distill.epochs):
            self._masked_lm()
        for task in recipe.finetune:
            for seed in recipe.models.seeds:
                for name in self.encoders:
                    self._plain(task, seed, name)
                for name in self.with_exits:
                    self._exiting(task, seed, name)
            self._costs(task, recipe.models.seeds[0])
        measured = {stage.name: stage.out for stage in self.stages if stage.name.split("/")[0] in _REPORTED}
        self._add("report", recipe.report, **measured)

    def _add(
        self, kind: str, settings: Settings, within: str = "", out: Path | None = None, /, **inputs: Input
    ) -> Path:
        """Add a stage and return its folder, which is named as the stage unless `out` says another."""
        name = f"{kind}/{within}" if within else kind
        out = out or self.folder / name
        self.stages.append(KINDS[kind].stage(name, settings, out, inputs))
        return out

    def _distill(self, teacher: Path) -> None:
        """Add a distillation for each layer map, and name the students that are fine-tuned."""
        models = self.recipe.models
        epochs = models.student_epochs or (self.recipe.distill.epochs,)
        for name, settings in self.recipe.distill.each().items():
            out = self._add("distill", settings, name, teacher=teacher, packed=self.packed)
            # One student a layer map needs no epoch in its name.
            named = {f"student-{name}" + (f"-e{epoch}" if len(epochs) > 1 else ""): epoch for epoch in epochs}
            self.encoders |= {student: out / f"epoch-{epoch}" for student, epoch in named.items()}
            if models.exits_on is None or name in models.exits_on:
                self.with_exits.append(list(named)[-1])

    def _masked_lm(self) -> None:
        """Measure language models on the last chunk, which was never read: what are they worth on new text?"""
        for name, model in self.encoders.items():
            if name != "scratch":
                settings = MaskedLMSettings(model=name, chunk=self.recipe.corpus.chunks, seed=self.recipe.seed)
                self._add("masked-lm", settings, name, model=model, packed=self.packed)

    def _plain(self, task: TaskName, seed: int, name: str) -> None:
        """Add fine-tuning and evaluation of one encoder."""
        settings = self.recipe.finetune[task].model_copy(update={"seed": seed, "from_scratch": name == "scratch"})
        imitated: dict[str, Input] = {}
        if name in ("teacher", "scratch"):
            settings = settings.model_copy(update={"soft_share": 0.0, "text_sequences": 0})
        elif settings.soft_share > 0:
            imitated["teacher"] = self._made("finetune", "teacher", task, seed)
        if settings.text_sequences:
            imitated["packed"] = self.packed
        encoder = self.encoders[name]
        model = self._add("finetune", settings, f"{name}-{task}-{seed}", encoder=encoder, data=self.data, **imitated)
        self._quality(task, seed, name, model=model)

    def _exiting(self, task: TaskName, seed: int, name: str) -> None:
        """Add exits, calibration and evaluation of one fine-tuned student."""
        within, finetuned = f"{name}-{task}-{seed}", self._made("finetune", name, task, seed)
        settings = self.recipe.exits[task].model_copy(update={"seed": seed})
        model = self._add("exits", settings, within, finetuned=finetuned, data=self.data)
        policy = self._add("calibrate", self.recipe.calibrate[task], within, model=model, data=self.data)
        self._quality(task, seed, f"{name}-exits", model=model, policy=policy)

    def _quality(self, task: TaskName, seed: int, name: str, **read: Input) -> None:
        settings = self.recipe.quality[task].model_copy(update={"model": name, "seed": seed})
        self._add("quality", settings, f"{name}-{task}-{seed}", data=self.data, **read)

    def _costs(self, task: TaskName, seed: int) -> None:
        """Measure all models of a task side by side, those of one seed."""
        models = {name: self._made("finetune", name, task, seed) for name in self.encoders}
        early = {f"{name}-exits": self._made("exits", name, task, seed) for name in self.with_exits}
        policies = {f"{name}-exits": self._made("calibrate", name, task, seed) for name in self.with_exits}
        self._add("costs", self.recipe.costs[task], task, models=models | early, policies=policies, data=self.data)

    def _made(self, kind: str, name: str, task: TaskName, seed: int) -> Path:
        return self.folder / kind / f"{name}-{task}-{seed}"

    def _place(self, value: str) -> Path | str:
        """Return where a recipe's path lies; the embedded sample is written below the run's own folder."""
        parts = Path(value).parts
        return self.folder.joinpath(*parts) if parts[:1] == (SAMPLE,) else place(value)
