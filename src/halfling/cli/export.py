"""`halfling export`: a trained model becomes a folder that the engine runs."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from halfling.cli.app import SERVING, AsJson, app


@app.command(rich_help_panel=SERVING)
def export(
    model: Path,
    out: Path,
    backend: Annotated[
        list[str] | None, typer.Option(help="openvino, onnx or torch, to run it; repeat. Default: openvino.")
    ] = None,
    precision: Annotated[Literal["float32", "int8"], typer.Option(help="Of the linear layers.")] = "float32",
    policy: Annotated[
        Path | None, typer.Option(help="A calibration's folder; without one nobody leaves early.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Where English dev is, for int8's scales; the embedded sample if left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write MODEL's segments, embeddings and tokenizer into OUT, and compare their answers with torch's."""
    from halfling.export.write import export as write
    from halfling.pipeline.stages import place

    source = None if data is None else place(data)
    found = write(
        model=model, out=out, backends=backend or ["openvino"], precision=precision, policy=policy, data=source
    )
    if as_json:
        typer.echo(json.dumps([one.model_dump() for one in found], indent=1))
        return
    for one in found:
        typer.echo(
            f"{one.backend} {precision}: largest logit difference from torch {one.largest_difference:.2g}, "
            f"{one.equal_labels:.2%} equal labels, {one.num_sentences} sentences"
        )
    typer.echo(str(out))
