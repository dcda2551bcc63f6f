"""Parameters of derived commands."""

from inspect import Parameter
from typing import Annotated, Any


def parameter(name: str, annotation: Any, how: Any, default: Any = ...) -> Parameter:
    """Return a parameter of a command: `how` is an Argument or Option of typer, which takes `...` for required."""
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, how])
