"""Compiles the native engine when the package is installed or built: one wheel a platform serves every Python."""

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeBuildHook(BuildHookInterface):
    """Builds the library and puts it into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile for this machine."""
        path = Path(self.root, "native", "build.py")
        spec = importlib.util.spec_from_file_location("native_build", path)
        assert spec is not None
        assert spec.loader is not None
        native = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(native)
        target = native.this_target()
        for library, wanted in ((native.LIBRARY, target), (native.WASM, native.BROWSERS)):
            if version != "editable" or native.is_stale(library):  # in a checkout it may be in use
                native.build(library, wanted)
            build_data["artifacts"].append(library.relative_to(self.root).as_posix())
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{native.platform_tag(target)}"
