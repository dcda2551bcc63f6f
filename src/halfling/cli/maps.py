"""`halfling distill maps`: which student layer learns from which teacher layer, drawn for every layer map."""

import json
from typing import Annotated

import typer

from halfling.cli.app import AsJson
from halfling.cli.columns import in_columns
from halfling.errors import HalflingError
from halfling.training.layer_maps import LAYER_MAPS, layer_map

_DEEPEST = 1000
_NOBODY, _ALL = ".", "*"


def maps(
    student: Annotated[str, typer.Argument(metavar="STUDENT", help="A number of layers, a model's folder or a shape.")],
    teacher: Annotated[str, typer.Argument(metavar="TEACHER", help="The same of its teacher.")],
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the draw of random that is shown.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Draw every layer map: under each teacher layer stands the student layer that learns from it.

    Example: halfling distill maps 12 24
    """
    depths = _layers(student), _layers(teacher)
    try:
        pairs = {name: layer_map(name, *depths, draw=(seed, 0)) for name in LAYER_MAPS}
    except ValueError as error:
        raise HalflingError(f"distill maps {student} {teacher}: {error}") from error
    if as_json:
        told = {
            name: {"says": one.says, "source": one.source, "how": one.how, "pairs": pairs[name]}
            for name, one in LAYER_MAPS.items()
        }
        typer.echo(json.dumps(told))
        return
    layers = range(1, depths[1] + 1)
    rows = [["teacher layer", *map(str, layers)]]
    for name, one in LAYER_MAPS.items():
        learns = {theirs: str(own) if one.how == "pairs" else _ALL for own, theirs in pairs[name]}
        rows.append([name, *(learns.get(layer, _NOBODY) for layer in layers)])
    notes: list[list[str]] = [[name, one.says, one.source] for name, one in LAYER_MAPS.items()]
    notes.append(["custom", "pairs of your own: layer_pairs=[[1,2],[2,4]]", ""])
    typer.echo(in_columns(rows))
    typer.echo(f"\n{_ALL}: every student layer learns from it. random: the first draw of seed {seed}.\n")
    wide = [max(len(row[column]) for row in notes) for column in (0, 1)]
    for named, says, source in notes:
        typer.echo(f"{named:{wide[0]}}  {says:{wide[1]}}  {source}".rstrip())


def _layers(place: str) -> int:
    """Return a number of layers: the number itself, or that of a model's folder or a published shape."""
    if not place.isdecimal():
        from halfling.models.shapes import shape_at  # transformers takes seconds

        return shape_at(place).num_layers
    if not 1 <= (number := int(place[:9])) <= _DEEPEST:
        raise HalflingError(f"distill maps: {place[:20]} layers: expected 1 to {_DEEPEST}")
    return number


alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
alone.command()(maps)
