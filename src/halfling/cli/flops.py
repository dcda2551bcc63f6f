"""`halfling flops`: the arithmetic of a shape, in the thesis's convention and in full."""

import json
from typing import Annotated

import typer

from halfling.cli.app import LOOKING, AsJson, app
from halfling.cli.columns import in_columns


@app.command(rich_help_panel=LOOKING)
def flops(
    shape: Annotated[list[str], typer.Option(help="xlm-roberta-large, xlm-roberta-base, or a model's folder; repeat.")],
    tokens: Annotated[int, typer.Option(min=1, max=65_536, help="Length of the input.")] = 128,
    as_json: AsJson = False,
) -> None:
    """Count the arithmetic of one input.

    gmacs_linear: multiply-accumulates of the encoder's linear layers, which the thesis calls GFLOPs.
    gflops: 2 per multiply-accumulate, the sum of linear, attention and a three-class head.
    """
    from halfling.cost.flops import Head, gmacs_linear
    from halfling.cost.flops import flops as count
    from halfling.models.shapes import shape_at

    head = Head(kind="sequence", num_classes=3)
    rows = []
    for name in shape:
        known = shape_at(name)
        whole = count(known, [tokens], [known.num_layers], head)
        rows.append(
            {
                "shape": name,
                "tokens": tokens,
                "gmacs_linear": round(gmacs_linear(known, tokens), 3),
                "gflops": round(whole.total / 1e9, 3),
                "linear": round(whole.linear / 1e9, 3),
                "attention": round(whole.attention / 1e9, 3),
                "head": round(whole.heads / 1e9, 6),
            }
        )
    cells = [[*rows[0]], *([str(cell) for cell in row.values()] for row in rows)]
    typer.echo(json.dumps(rows, indent=1) if as_json else in_columns(cells))
