"""The folder for browsers: what the native engine computes with, and the script and page that call it."""

import gzip
import os
import shutil
from pathlib import Path

from halfling.engine.backends.native import WEIGHTS
from halfling.engine.exported import EXPORTED
from halfling.engine.text import NATIVE_FILE
from halfling.native import wasm_module

WEB = "web"
"""The folder's name in an exported model's. Nothing in it says where the model was made."""
PAGE = Path(__file__).with_name("page")


def write_web(out: Path) -> int:
    """Write the folder for browsers into that of a model which is exported for native, and return its bytes.

    Weights and tokenizer are compressed here: few hosts compress what they know no name for.

    Raises:
        HalflingError: The library is not there as WebAssembly, and cannot be built.
    """
    folder = out / WEB
    folder.mkdir()
    (folder / "halfling.wasm").write_bytes(wasm_module())
    shutil.copyfile(out / EXPORTED, folder / EXPORTED)
    for path in sorted(PAGE.iterdir()):
        shutil.copyfile(path, folder / path.name)
    for name in (WEIGHTS, NATIVE_FILE):
        # Without a time, so that the same model makes the same bytes.
        (folder / f"{name}.gz").write_bytes(gzip.compress((out / name).read_bytes(), mtime=0))
    return sum(entry.stat().st_size for entry in os.scandir(folder))
