"""`halfling calibrate`: where to leave and when."""

from pathlib import Path
from typing import Annotated

import typer

from halfling.cli.app import STAGES, AsJson, Overrides, app


@app.command(rich_help_panel=STAGES)
def calibrate(
    model: Path,
    data: str,
    out: Path,
    overrides: Overrides = None,
    max_drop: Annotated[float | None, typer.Option(help="Points of quality that may be lost (upper bound).")] = None,
    flops_share: Annotated[float | None, typer.Option(help="At most this much of the arithmetic, 0..1.")] = None,
    latency_ms: Annotated[float | None, typer.Option(help="At most this long for a sentence alone.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="Time the model as exported for openvino, onnx or torch, not as it is.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="Of that export: float32 or int8.")] = None,
    as_json: AsJson = False,
) -> None:
    """Choose exits and thresholds of MODEL on English dev in DATA: task=wikiann --max-drop 0.5."""
    from halfling.calibrate import CalibrateSettings
    from halfling.calibrate import calibrate as work
    from halfling.cli.one_stage import place, run_one

    options = {
        "max_drop": max_drop,
        "flops_share": flops_share,
        "latency_ms": latency_ms,
        "engine": engine,
        "precision": precision,
    }
    asked = [f"{name}={value}" for name, value in options.items() if value is not None]
    run_one(
        work,
        CalibrateSettings,
        out,
        [*(overrides or ()), *asked],
        {"model": model, "data": place(data)},
        as_json=as_json,
    )
