"""`halfling serve`: exported models over HTTP."""

from inspect import Parameter, Signature
from typing import Annotated, Any, Literal

import typer

from halfling.cli.app import SERVING, app, parameter
from halfling.cli.settings import shown
from halfling.errors import HalflingError
from halfling.serve.settings import ServeSettings

_PANEL = "Settings"
_FOLDERS = typer.Argument(metavar="FOLDER...", help="Exported models; NAME=FOLDER names one, else its folder's name.")
_BACKEND = typer.Option(help="native, onnx, torch, or auto.")
_LEVEL = typer.Option(help="What is logged: each request (info), or what goes wrong (warning).")


def _serve(**given: Any) -> None:
    """Serve the exported models in FOLDER... over HTTP, and a page to try them at.

    The contract is that of Text Embeddings Inference (/predict), with /predict_tokens for taggers. See docs/serving.md.
    """
    folders, backend, level = given.pop("folder"), given.pop("backend"), given.pop("log_level")
    settings = ServeSettings.checked({key: value for key, value in given.items() if value is not None}, "serve")
    try:
        from halfling.serve.meter import Meter
        from halfling.serve.model import load_models
        from halfling.serve.run import run
    except ModuleNotFoundError as error:
        raise HalflingError(f"serve: {error.name} is not installed: pip install 'halfling-nlp[serve]'") from error

    meter = Meter()
    run(load_models(folders, backend, settings, meter), settings, meter, level)


def _options() -> list[Parameter]:
    """Return an option for each setting; pydantic reads what was typed, and says what is wrong with it."""
    found = []
    for name, field in ServeSettings.model_fields.items():
        text = f"{field.description} [dim]\\[{shown(field)}][/]"
        option = "--" + name.replace("_", "-")
        if field.annotation is bool:
            how = typer.Option(option, help=text, metavar=" ", rich_help_panel=_PANEL)
            found.append(parameter(name, bool | None, how, None))
        else:
            metavar = "TEXT" if field.annotation is str else "NUM"
            how = typer.Option(option, help=text, metavar=metavar, rich_help_panel=_PANEL)
            found.append(parameter(name, str | None, how, None))
    return found


_serve.__signature__ = Signature(  # type: ignore[attr-defined]
    [
        parameter("folder", list[str], _FOLDERS),
        Parameter("backend", Parameter.KEYWORD_ONLY, default="auto", annotation=Annotated[str, _BACKEND]),
        Parameter(
            "log_level",
            Parameter.KEYWORD_ONLY,
            default="info",
            annotation=Annotated[Literal["info", "warning"], _LEVEL],
        ),
        *_options(),
    ]
)
app.command("serve", rich_help_panel=SERVING)(_serve)
