"""A model's card: what it is, how it was made, and what was measured of it."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from halfling.records import Manifest, Origin
from halfling.report import tables
from halfling.report.int8 import int8_table
from halfling.report.summary import mean
from halfling.report.tables import Table
from halfling.results import MaskedLoss, MeasuredDrop, Quality

_CURVE_POINTS = 12

PIPELINES = {
    "ForMaskedLM": "fill-mask",
    "ForTokenClassification": "token-classification",
    "ForSequenceClassification": "text-classification",
    "Model": "feature-extraction",
}
"""The hub's name of what a model is for, by the end of its architecture's name."""


def card_text(
    *,
    title: str,
    licence: str,
    base_model: str | None,
    notes: str,
    config: dict[str, Any],
    manifest: Manifest,
    qualities: Sequence[Quality],
    losses: Sequence[MaskedLoss],
    int8_drops: Sequence[MeasuredDrop],
) -> str:
    """Return the card as Markdown, with the header that the hub reads.

    Args:
        base_model: The hub id of the model that it was made from; of a teacher its source, when that is one.
        notes: Markdown on data and licences, taken as it is.
        qualities: Of this model, or of a masked language model's fine-tuned ones; one for each task, language, seed.
        losses: Of this model on held-out text. The languages of both are the card's.
        int8_drops: Of this model's exports.
    """
    pipeline = next(tag for kind, tag in PIPELINES.items() if config["architectures"][0].endswith(kind))
    is_encoder = pipeline in ("fill-mask", "feature-extraction")
    source = manifest.settings.get("source", "scratch")
    is_hub_id = source != "scratch" and ":" not in source and not Path(source).exists()
    origin = Origin.model_validate(config["origin"]) if config.get("origin") else None
    made_of = origin.model if origin and "/" in origin.model else None
    # The hub knows languages, not the scripts that CC100 tells apart after `_` or `-`.
    languages = {line.language for line in losses} | {line.language for line in qualities}
    data = ModelCardData(
        license=licence,
        library_name="transformers",
        pipeline_tag=pipeline,
        language=sorted({code.replace("-", "_").split("_")[0] for code in languages}) or None,
        tags=["xlm-roberta", "halfling", *(["early-exit"] if "exit_layers" in config else [])],
        base_model=base_model or made_of or (source if is_hub_id else None),
        # Scores of an encoder are of others that were fine-tuned from it.
        model_name=title if qualities and not is_encoder else None,
        eval_results=_results(qualities, pipeline) if qualities and not is_encoder else None,
    )
    shown = [_shape(config, manifest), _settings(manifest), _curve(manifest)]
    shown += [_quality(qualities, task) for task in sorted({line.task for line in qualities})]
    exported = sorted({drop.task for drop in int8_drops})
    shown += [int8_table([drop for drop in int8_drops if drop.task == task], ()) for task in exported]
    shown += [tables.held_out_table(losses)]
    card = ModelCard.from_template(
        data,
        template_path=str(Path(__file__).with_name("card.md")),
        title=title,
        notes=notes.strip(),
        origin=origin.note if origin else "",
        pipeline=pipeline,
        config=config,
        tables=[tables.markdown(table).strip() for table in shown if table.rows],
    )
    return f"{card}\n"


def _results(qualities: Sequence[Quality], pipeline: str) -> list[EvalResult]:
    """Return what the hub lists: accuracy and F1 for each task and language, means over seeds."""
    groups = defaultdict(list)
    for line in qualities:
        groups[line.task, line.language].append(line)
    return [
        EvalResult(
            task_type=pipeline,
            dataset_type=task,
            dataset_name=task,
            dataset_config=language,
            dataset_split="dev",
            metric_type=metric,
            metric_value=round(fmean(getattr(line, metric) for line in lines), 4),
        )
        for (task, language), lines in groups.items()
        for metric in ("accuracy", "f1")
    ]


def _shape(config: dict[str, Any], manifest: Manifest) -> Table:
    rows = {
        "layers": config["num_hidden_layers"],
        "width": config["hidden_size"],
        "heads": config["num_attention_heads"],
        "feed-forward width": config["intermediate_size"],
        "pieces": config["vocab_size"],
        "longest input, tokens": config["max_position_embeddings"] - 2,
        "parameters": manifest.counts.get("parameters", tables.ABSENT),
        "tokens read in training": manifest.counts.get("tokens", tables.ABSENT),
        "steps": manifest.counts.get("steps", tables.ABSENT),
        "seed": manifest.seed,
    }
    cells = tuple((name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in rows.items())
    return Table(title="Shape and training", columns=("", ""), rows=cells)


def _settings(manifest: Manifest) -> Table:
    of_the_machine = ("report_to", "logging_dir")
    rows = tuple((name, f"`{value}`") for name, value in manifest.settings.items() if name not in of_the_machine)
    return Table(title=f"Settings of `{manifest.stage}`", columns=("setting", "value"), rows=rows, num_labels=2)


def _curve(manifest: Manifest) -> Table:
    """Return a dozen points of the training curve, the last among them."""
    curve = manifest.counts.get("curve", [])
    every = max(1, len(curve) // _CURVE_POINTS)
    points = curve[every - 1 :: every]
    if curve and points[-1] is not curve[-1]:
        points = [*points, curve[-1]]
    columns = tuple(points[0]) if points else ()
    rows = tuple(tuple(str(point[name]) for name in columns) for point in points)
    return Table(
        title="Training curve",
        columns=columns,
        rows=rows,
        note="Means of 25 steps; `kl`, `mlm`, `relation` and `attention` in nats, as the loss of a language model.",
    )


def _quality(qualities: Sequence[Quality], task: str) -> Table:
    here = [line for line in qualities if line.task == task]
    codes = list(dict.fromkeys(line.language for line in here))

    def cell(code: str) -> str:
        scores = [line.score for line in here if line.language == code]
        return tables.with_spread(mean(scores), tables.percent)

    seeds = sorted({line.seed for line in here})
    return Table(
        title=f"{task}, dev: {here[0].metric} %",
        columns=tuple(codes),
        rows=(tuple(map(cell, codes)),),
        note=f"Fine-tuned with {len(seeds)} seed{'s' * (len(seeds) > 1)} (mean ± standard deviation); "
        f"languages with training labels: {', '.join(dict.fromkeys(one.language for one in here if one.trained_on))}.",
        num_labels=0,
    )
