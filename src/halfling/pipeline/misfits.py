"""What of a recipe does not fit together, though each of its sections is understood."""

import difflib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from halfling.errors import HalflingError
from halfling.languages import resolve
from halfling.models.convert.four_bit import shape_in
from halfling.models.convert.package import PREFIX, packaged
from halfling.models.shapes import SHAPES, Dimensions, Shape, shape_at
from halfling.pipeline.sections import PER_TASK, Sections
from halfling.records import EncoderShape
from halfling.training.distill import DistillSettings, heads_of_relations
from halfling.training.fit import require_fit
from halfling.training.initialise import layers_to_take
from halfling.training.layer_maps import layer_map


def misfits(recipe: Sections) -> Iterator[str]:
    """Yield what would fail after hours, as far as it is known before anything is loaded."""
    for section in PER_TASK:
        for name in [name for name in getattr(recipe, section) if name not in recipe.tasks]:
            near = difflib.get_close_matches(name, recipe.tasks, n=1, cutoff=0)[0]
            yield f"{section}.{name}: no such task under tasks: the nearest is {near}"
    if "int8" in recipe.export.precisions and "torch" in recipe.export.backends:
        yield "export: torch runs no int8: leave int8 out of precisions, or torch out of backends"
    if "float32" in recipe.export.precisions and "native" in recipe.export.backends:
        yield "export: native runs int8 only: leave float32 out of precisions, or native out of backends"
    if "bfloat16" in recipe.export.precisions and recipe.export.backends != ("torch",):
        yield "export: only torch runs bfloat16: leave it out of precisions, or set backends to torch"
    distill, there = recipe.distill, range(1, recipe.distill.epochs + 1)
    for epoch in sorted({*distill.save_epochs} - {*there}) if "save_epochs" in distill.model_fields_set else ():
        yield f"distill.save_epochs: epoch {epoch} outside 1..{distill.epochs}"
    if distill.layer_pairs and "custom" not in distill.layer_maps:
        yield "distill.layer_pairs: read by the layer map custom only, which layer_maps does not name"
    if recipe.corpus.languages != "all":
        resolve(recipe.corpus.languages)
    for name, task in recipe.tasks.items():
        quality, costs = (settings[name].languages or task.languages for settings in (recipe.quality, recipe.costs))
        if {*quality} != {*costs}:
            yield f"quality.{name}.languages and costs.{name}.languages differ: the report joins them"
        for section in ("quality", "costs", "calibrate"):
            for code in getattr(recipe, section)[name].languages or ():
                if code not in task.languages:
                    known = ", ".join(task.languages) or "none"
                    yield f"{section}.{name}.languages: no dev data in {code!r}: there is {known}"
        if task.kind == "pair_classification":
            for section in ("finetune", "exits"):
                if getattr(recipe, section)[name].text_sequences:
                    yield f"{section}.{name}.text_sequences: a corpus has no pairs to imitate on: set it to 0"
        exits = recipe.exits[name]
        if exits.granularity == "token" and (task.kind not in ("tagging", None) or exits.method != "leaving"):
            yield f"exits.{name}.granularity=token is for taggers and method=leaving"
    yield from _shape_misfits(recipe)
    saved = sorted({*distill.save_epochs} & {*there} | {distill.epochs})
    for epoch in sorted({*(recipe.models.student_epochs or ())} - {*saved}):
        yield f"models.student_epochs: epoch {epoch} is not saved (distill.save_epochs {saved})"
    if strange := sorted({*(recipe.models.slope_seeds or ())} - {*recipe.models.seeds}):
        yield f"models.slope_seeds: {strange[0]} is not among models.seeds {recipe.models.seeds}"
    for name in [name for name in recipe.models.exits_on or () if name not in distill.each()]:
        also = " or distill.variants" if distill.variants else ""
        yield f"models.exits_on: {name} is not among distill.layer_maps {distill.layer_maps}{also}"


def _shape_misfits(recipe: Sections) -> Iterator[str]:
    each, teacher = recipe.distill.each(), _teacher_shape(recipe)
    yield from _student_misfits(recipe, teacher, "distill.student", recipe.distill.student)
    for name in [name for name, differs in recipe.distill.variants.items() if "student" in differs]:
        yield from _student_misfits(recipe, teacher, f"distill.variants.{name}.student", each[name].student)
    for name, settings in each.items():
        if teacher:
            yield from (f"distill, {name}: {misfit}" for misfit in _distillation_misfits(settings, teacher))


def _distillation_misfits(settings: DistillSettings, teacher: Dimensions | EncoderShape) -> Iterator[str]:
    """Yield what the stage would say, by which time the teacher has been trained."""
    student = _known(settings.student)
    if student.num_layers > teacher.num_layers:
        return  # said of the shape
    for check in (
        lambda: layer_map(settings.layer_map, student.num_layers, teacher.num_layers, settings.layer_pairs),
        lambda: heads_of_relations(settings, student, teacher),
        lambda: _require_fit(settings, student, teacher),
    ):
        try:
            check()
        except ValueError as error:
            yield str(error)
    start, widths = settings.start, f"the student's width is {student.width}, the teacher's {teacher.width}"
    if start == "layers" and student.width != teacher.width:
        yield f"start=layers copies layers of equal width, and {widths}: set start=subclone, or embeddings"
    if start in ("subclone", "embeddings") and student.width > teacher.width:
        yield f"start={start} takes a part, and {widths}: set start=random"


def _require_fit(
    settings: DistillSettings, student: Dimensions | EncoderShape, teacher: Dimensions | EncoderShape
) -> None:
    if settings.fit_tokens:
        depths = student.num_layers, teacher.num_layers
        taken = layers_to_take(layer_map(settings.layer_map, *depths, settings.layer_pairs), *depths)
        require_fit(taken, settings.fit_tokens, student.ffn_width or 4 * student.width)


def _student_misfits(
    recipe: Sections, teacher: Dimensions | EncoderShape | None, where: str, shape: Shape
) -> Iterator[str]:
    student = _known(shape)
    if teacher and student.num_layers > teacher.num_layers:
        yield f"{where} has {student.num_layers} layers, more than the teacher's {teacher.num_layers}"
    room = student.max_tokens
    for name, known in {"teacher": teacher, where.removesuffix(".student"): student}.items():
        if known and recipe.pack.block_tokens > known.max_tokens:
            yield f"pack.block_tokens {recipe.pack.block_tokens}: the {name} reads {known.max_tokens} tokens"
        room = min(room, known.max_tokens if known else room)
    for section in PER_TASK:
        for task, settings in getattr(recipe, section).items():
            if getattr(settings, "max_tokens", 0) > room:
                yield f"{section}.{task}.max_tokens {settings.max_tokens}: the models read {room} tokens"
    for task, exits in recipe.exits.items():
        if not {*(exits.layers or ())} <= {*range(1, student.num_layers + 1)}:
            yield f"exits.{task}.layers {exits.layers} outside 1..{student.num_layers}"
        elif exits.layers and min(exits.layers) == student.num_layers:
            yield f"exits.{task}.layers {exits.layers}: no early exit: name a layer below {student.num_layers}"


def _known(shape: Shape) -> Dimensions | EncoderShape:
    return shape if isinstance(shape, Dimensions) else SHAPES[shape]


def _teacher_shape(recipe: Sections) -> Dimensions | EncoderShape | None:
    """Return the teacher's shape where it is known before the teacher is read; its stage says what is wrong with it."""
    source = recipe.teacher.source
    if source == "scratch":
        return _known(recipe.teacher.shape)
    with suppress(HalflingError):
        if source.startswith(PREFIX):
            return shape_in(packaged(source))
        if Path(source).is_dir():
            return shape_at(source)
    return SHAPES.get(source.removeprefix("FacebookAI/"))  # another's model of that name may have another shape
