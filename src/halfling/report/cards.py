"""A model's card: what it is, how it was made, and what was measured of it."""

from collections.abc import Sequence
from typing import Any

from halfling.records import Manifest, MaskedLoss, Quality
from halfling.report import tables
from halfling.report.summary import mean
from halfling.report.tables import Table

_CURVE_POINTS = 12


def card(
    *,
    title: str,
    licence: str,
    notes: str,
    config: dict[str, Any],
    manifest: Manifest,
    qualities: Sequence[Quality],
    losses: Sequence[MaskedLoss],
) -> str:
    """Return the card as Markdown, with the header that the hub reads.

    Args:
        title: Its heading.
        licence: Of the weights, as the hub names it.
        notes: Markdown on data and licences, taken as it is.
        config: The model's `config.json`.
        manifest: Of the stage that made the model.
        qualities: Of the models that were fine-tuned from it; one for each task, language and seed.
        losses: Of this model on held-out text; their languages are the card's.
    """
    languages = sorted({line.language for line in losses} | {line.language for line in qualities})
    header = ["---", f"license: {licence}", "library_name: transformers", "pipeline_tag: fill-mask", "language:"]
    header += [f'- "{code}"' for code in languages] + ["tags:", "- xlm-roberta", "- halfling", "---"]
    shown = [_shape(config, manifest), _settings(manifest), _curve(manifest)]
    shown += [_quality(qualities, task) for task in sorted({line.task for line in qualities})]
    shown += [tables.held_out_table(losses)]
    parts = ["\n".join(header), f"# {title}", notes.strip()]
    parts += [tables.markdown(table).strip() for table in shown if table.rows]
    return "\n\n".join(part for part in parts if part) + "\n"


def _shape(config: dict[str, Any], manifest: Manifest) -> Table:
    counts = manifest.counts
    rows = {
        "layers": config["num_hidden_layers"],
        "width": config["hidden_size"],
        "heads": config["num_attention_heads"],
        "feed-forward width": config["intermediate_size"],
        "pieces": config["vocab_size"],
        "longest input, tokens": config["max_position_embeddings"] - 2,
        "parameters": counts.get("parameters", tables.ABSENT),
        "tokens read in training": counts.get("tokens", tables.ABSENT),
        "steps": counts.get("steps", tables.ABSENT),
        "seed": manifest.seed,
    }
    cells = tuple((name, f"{value:,}" if isinstance(value, int) else str(value)) for name, value in rows.items())
    return Table(title="Shape and training", columns=("", ""), rows=cells)


def _settings(manifest: Manifest) -> Table:
    rows = tuple((name, f"`{value}`") for name, value in manifest.settings.items())
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
        note="Means of 25 steps; the masked-language-model loss and `kl` in nats.",
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
        "labels were in English only.",
        num_labels=0,
    )
