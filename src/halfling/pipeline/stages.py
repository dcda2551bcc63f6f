"""Every kind of stage, declared once: its command and its part in a plan follow."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path

from halfling.records import Counts, Settings
from halfling.stage import Input, Stage


@dataclass(frozen=True)
class Kind:
    """A kind of stage. The signature of its work says which settings and inputs it takes.

    Attributes:
        name: What a recipe and a run's folder call it.
        place: "module:function" of the work, imported when it is needed: torch takes seconds.
        says: What it does in one line, its inputs in capitals.
        command: The words of its command, where they are not the name.
    """

    name: str
    place: str
    says: str
    command: str = ""

    @cached_property
    def work(self) -> Callable[..., Counts]:
        """The function that does the work."""
        module, _, function = self.place.partition(":")
        work: Callable[..., Counts] = getattr(import_module(module), function)
        return work

    @cached_property
    def settings(self) -> type[Settings]:
        """The class of its settings."""
        kind: type[Settings] = self._parameters["settings"].annotation
        return kind

    @cached_property
    def inputs(self) -> list[inspect.Parameter]:
        """What it reads, in the signature's order, but for what a setting names."""
        own = {"settings", "out", "progress", *self._named_by_settings}
        return [parameter for name, parameter in self._parameters.items() if name not in own]

    def stage(self, name: str, settings: Settings, out: Path, inputs: Mapping[str, Input]) -> Stage:
        """Return a stage of this kind.

        A setting that names a folder here (`source`) becomes an input, so that the folder's content counts; so does
        the file of a package that is installed.
        """
        named = {}
        for role in self._named_by_settings:
            value = getattr(settings, role)
            # A folder that is called as the default, "scratch", is not meant.
            if value != self.settings.model_fields[role].default and Path(value).is_dir():
                named[role] = Path(value)
            elif value.startswith("package:"):
                named[role] = _packaged(value)
        return Stage(name, self.work, settings, out, {**inputs, **named})

    @cached_property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.work, eval_str=True).parameters

    @cached_property
    def _named_by_settings(self) -> list[str]:
        fields = self.settings.model_fields
        return [name for name, one in self._parameters.items() if one.annotation == Path | None and name in fields]


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "sample",
            "halfling.sample.write:write_sample",
            "Write the embedded sample to OUT, in the form of the real data.",
        ),
        Kind(
            "corpus",
            "halfling.corpus.build:build_corpus",
            "Draw documents from SOURCE, a folder of CC100's files or a URL, into language-aligned chunks in OUT.",
            command="corpus build",
        ),
        Kind(
            "tokenizer",
            "halfling.tokens.tokenizer:build_tokenizer",
            "Train a tokenizer of XLM-R's kind on CORPUS, or fetch one (source=FacebookAI/xlm-roberta-large).",
        ),
        Kind(
            "pack",
            "halfling.tokens.pack:pack_corpus",
            "Tokenise CORPUS with TOKENIZER and pack it into blocks in OUT.",
        ),
        Kind(
            "teacher",
            "halfling.training.pretrain:build_teacher",
            "Train a teacher on PACKED, or fetch one (source=FacebookAI/xlm-roberta-large epochs=0).",
        ),
        Kind(
            "trim",
            "halfling.training.trim:trim",
            "Cut MODEL and its tokenizer down to the pieces that some languages use: --languages sw,en.",
        ),
        Kind(
            "distill",
            "halfling.training.distill:distill",
            "Distil TEACHER into a student on PACKED; OUT holds it as epoch-1, epoch-3 and epoch-5. "
            "`distill maps STUDENT TEACHER` draws the layer maps.",
        ),
        Kind(
            "finetune",
            "halfling.training.finetune:finetune",
            "Fine-tune ENCODER on labelled data: --train train.csv --dev sw=dev-sw.csv.",
        ),
        Kind(
            "exits",
            "halfling.training.exits:train_exits",
            "Give FINETUNED exits, trained on the labelled data of its task.",
        ),
        Kind(
            "calibrate",
            "halfling.calibrate.stage:calibrate",
            "Choose exits and thresholds of MODEL on its task's dev split: --max-drop 0.5.",
        ),
        Kind(
            "export",
            "halfling.export.write:export",
            "Write MODEL as a folder that the engine runs, and say what int8 costs in every language.",
        ),
        Kind(
            "quality",
            "halfling.evaluate.quality:measure_quality",
            "Write the scores of exported models, or models in PyTorch, in every language: --model NAME=FOLDER.",
        ),
        Kind(
            "masked-lm",
            "halfling.evaluate.masked_lm:measure_masked_lm",
            "Write the masked-language-model loss of MODEL on the last chunk of PACKED, by language: model=NAME.",
        ),
        Kind(
            "costs",
            "halfling.evaluate.costs:measure_costs",
            "Measure time, memory and size of several models side by side: --model NAME=FOLDER.",
        ),
        Kind(
            "evaluate",
            "halfling.evaluate.costs:evaluate",
            "Write quality and costs of several models in one go: --model NAME=FOLDER.",
        ),
        Kind(
            "report",
            "halfling.report.build:build_report",
            "Make the report of what was measured.",
        ),
        Kind(
            "publish",
            "halfling.report.publish:publish",
            "Write MODEL in half precision with its tokenizer and a card: title=NAME.",
        ),
    )
}
"""By name, as data flows."""


def _packaged(value: str) -> Path:
    from halfling.models.convert.package import packaged  # torch takes seconds

    return packaged(value)


def place(value: str) -> Path | str:
    """Return where data lies: a folder here, or "hub" or a URL as it is."""
    return value if value == "hub" or "://" in value else Path(value)
