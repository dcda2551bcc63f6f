"""An answer beside its text: entities coloured where they stand, the layer where the text exited."""

from zlib import crc32

from rich.console import Console
from rich.text import Text

from halfling.cli.texts import shown_as
from halfling.engine.prediction import Prediction

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")
_KNOWN = {"PER": "cyan", "ORG": "magenta", "LOC": "green"}


def show(text: str, answer: Prediction) -> None:
    """Print a text with its entities, each followed by its type, or with its label; then the layer it exited at.

    Brackets stand round an entity, so that it is seen without colours too.
    """
    shown, done = Text(f"layer {answer.exit_layer}  ", style="dim"), 0
    for span in answer.spans or ():
        colour = _colour(span.label)
        shown.append(shown_as(text[done : span.start]), style="not dim")
        shown.append(f"[{shown_as(text[span.start : span.end])}]", style=f"not dim bold {colour}")
        shown.append(shown_as(span.label), style=f"not dim {colour}")
        done = span.end
    shown.append(shown_as(text[done:]), style="not dim")
    if answer.label is not None:
        shown.append(f"  {shown_as(answer.label)}", style=f"not dim bold {_colour(answer.label)}")
    Console(highlight=False, soft_wrap=True).print(shown)


def _colour(label: str) -> str:
    """The same label has the same colour everywhere."""
    return _KNOWN.get(label, _COLOURS[crc32(label.encode()) % len(_COLOURS)])
