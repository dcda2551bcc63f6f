"""halfling: distil XLM-R, let easy inputs exit early, and measure that work saved is time saved."""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from halfling import telemetry

__version__ = "0.1.0"

telemetry.turn_off()  # before any library is imported

_AUTO, _MODEL_TYPE = "transformers.models.auto.configuration_auto", "xlm-roberta-early-exit"


class _WhenAutoIsImported:
    """Makes transformers' Auto classes know the early-exit model, without an import before it is asked for.

    Their table of names looks a model up in `transformers.models.*`; a module there leads to `halfling.models`, which
    registers itself.
    """

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != _AUTO:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        loader: Any = spec and spec.loader
        if loader is not None:
            execute = loader.exec_module

            def execute_and_enter(module: ModuleType) -> None:
                execute(module)
                _enter(module)

            loader.exec_module = execute_and_enter
        return spec


def _enter(configuration_auto: Any) -> None:
    def attribute(name: str) -> Any:
        if name.startswith("__"):  # whoever looks through all modules wants no early-exit model
            raise AttributeError(name)
        return getattr(import_module("halfling.models"), name)

    leads = ModuleType(f"transformers.models.{_MODEL_TYPE.replace('-', '_')}")
    leads.__getattr__ = attribute  # type: ignore[method-assign]
    sys.modules[leads.__name__] = leads
    configuration_auto.CONFIG_MAPPING_NAMES[_MODEL_TYPE] = "XLMRobertaEarlyExitConfig"


if _AUTO in sys.modules:
    _enter(sys.modules[_AUTO])
else:
    sys.meta_path.insert(0, _WhenAutoIsImported())
