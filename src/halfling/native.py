"""The library in C (`native/`), loaded through ctypes; from a checkout it is built anew where its sources are newer."""

import ctypes
import fcntl
import importlib.util
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from halfling.errors import HalflingError

# No module of Python, which a name that ends in .so would say.
LIBRARY = Path(__file__).with_name("libhalfling.so.1")
WASM = Path(__file__).with_name("halfling.wasm")
"""The same for browsers."""
_ABI = 1
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "halfling_open": (c_void_p, (c_char_p, c_int32, c_char_p, POINTER(c_char_p))),
    "halfling_close": (None, (c_void_p,)),
    "halfling_sizes": (None, (c_void_p, c_void_p)),
    "halfling_answer": (c_char_p, (c_void_p, c_void_p, c_void_p, c_void_p)),
    "halfling_model_variant": (c_char_p, (c_void_p,)),
    "halfling_variant": (c_char_p, (c_int32,)),
    "halfling_tokenizer_open": (c_void_p, (c_char_p, POINTER(c_char_p))),
    "halfling_tokenizer_over": (c_void_p, (c_void_p, c_int64, POINTER(c_char_p))),
    "halfling_tokenizer_close": (None, (c_void_p,)),
    "halfling_tokenize": (POINTER(c_int32), (c_void_p, c_void_p, c_void_p, c_int64, c_void_p)),
    "halfling_free": (None, (c_void_p,)),
}
"""What a function returns and takes: `native/halfling.h`."""


@cache
def library() -> Any:
    """Return the library.

    Raises:
        HalflingError: It is not there and cannot be built.
    """
    _build_where_stale(LIBRARY)
    try:
        found = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise HalflingError(f"{LIBRARY}: cannot be loaded ({error}): install halfling-nlp again") from error
    if found.halfling_abi() != _ABI:
        raise HalflingError(f"{LIBRARY}: of another version: install halfling-nlp again")
    for name, (returned, taken) in _FUNCTIONS.items():
        function = getattr(found, name)
        function.restype, function.argtypes = returned, taken
    return found


def wasm_module() -> bytes:
    """Return the library as a WebAssembly module, which imports nothing.

    Raises:
        HalflingError: It is not there and cannot be built.
    """
    _build_where_stale(WASM, "wasm32-wasi")
    try:
        return WASM.read_bytes()
    except OSError as error:
        raise HalflingError(f"{WASM}: cannot be read ({error.strerror}): install halfling-nlp again") from error


def address(array: np.ndarray | None) -> int | None:
    """Return where an array's numbers lie, for the library; it must live as long as they are read."""
    return None if array is None else array.ctypes.data


def _build_where_stale(library: Path, target: str | None = None) -> None:
    script = Path(__file__).parents[2] / "native" / "build.py"
    if not script.is_file():
        return  # installed: the library came along
    spec = importlib.util.spec_from_file_location("halfling_native_build", script)
    if spec is None or spec.loader is None:
        return
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    if not builder.is_stale(library):
        return
    with library.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # processes that begin together build once
        if builder.is_stale(library):
            try:
                builder.build(library, target)
            except RuntimeError as error:
                raise HalflingError(f"{script.parent}: the library cannot be built: {error}") from error
