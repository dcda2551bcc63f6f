"""`halfling flops`: the arithmetic of a shape, in the thesis's convention and in full."""

import json
from typing import Annotated

import typer

from halfling.cli.app import LOOKING, AsJson, app


@app.command(rich_help_panel=LOOKING)
def flops(
    shape: Annotated[list[str], typer.Option(help="xlm-roberta-large, xlm-roberta-base, or a model's folder; repeat.")],
    tokens: Annotated[int, typer.Option(min=1, help="Length of the input.")] = 128,
    as_json: AsJson = False,
) -> None:
    """Count the arithmetic of one input.

    gmacs_linear: multiply-accumulates of the encoder's linear layers, which the thesis calls GFLOPs.
    gflops: 2 per multiply-accumulate, the sum of linear, attention and a three-class head.
    """
    from rich.console import Console
    from rich.table import Table

    from halfling.cost.flops import Head, gmacs_linear
    from halfling.cost.flops import flops as count
    from halfling.models.shapes import SHAPES, named_shape, shape_in

    head = Head(kind="sequence", num_classes=3)
    rows = []
    for name in shape:
        known = named_shape(name) if name in SHAPES else shape_in(name)
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
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table(box=None)
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "shape" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)
