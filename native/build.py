"""Builds the library by the compiler of the package `ziglang`: nothing of the system is needed.

python native/build.py [target]      for instance aarch64-linux-gnu.2.17, or wasm32-wasi; this machine's when absent
"""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LIBRARY = HERE.parent / "src" / "halfling" / "libhalfling.so.1"
BROWSERS = "wasm32-wasi"
WASM = LIBRARY.with_name("halfling.wasm")
"""The same for browsers: a module that imports nothing."""

_COMMON = ("variants.c", "folder.c", "encoder.c", "exits.c", "answer.c", "tokenizer.c")
_VARIANTS = {
    "x86_64": {
        "halfling_avx512": "x86_64_v4+avx512vnni",
        "halfling_avxvnni": "x86_64_v3+avxvnni",
        "halfling_avx2": "x86_64_v3",
        "halfling_plain": "x86_64",
    },
    "aarch64": {"halfling_dot": "generic+dotprod", "halfling_plain": "generic"},
    "wasm32": {"halfling_plain": "generic+simd128"},
}
"""Processor -> table of kernels -> what it is compiled for. `variants.c` knows the same tables."""

_FLAGS = (
    "-std=gnu11",
    "-O3",
    "-g0",
    "-fPIC",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Werror",
    # Products are fused where the source says so, and nowhere else: every variant rounds alike.
    "-ffp-contract=off",
    "-mprefer-vector-width=512",
)
_WASM_FLAGS = tuple(f"-D_WASI_EMULATED_{name}" for name in ("MMAN", "GETPID"))
"""Declare what `halfling_open` and forks need. The module is left neither, as nothing that it exports does."""
_WASM_EXPORTS = (
    "aligned_alloc",
    *("halfling_over", "halfling_answer"),
    *("halfling_tokenizer_over", "halfling_tokenize", "halfling_free"),
)


def this_target() -> str:
    """Return the target of this machine; on Linux a C library of 2014 is enough."""
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    if sys.platform == "darwin":
        return f"{machine}-macos.11.0"
    libc = "musl" if "musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or "") else "gnu.2.17"
    return f"{machine}-linux-{libc}"


def platform_tag(target: str) -> str:
    """Return the tag of a wheel that holds the library for a target."""
    machine, system = target.split("-", 1)
    if system.startswith("macos"):
        return f"macosx_11_0_{'arm64' if machine == 'aarch64' else machine}"
    return f"{'musllinux_1_1' if 'musl' in system else 'manylinux_2_17'}_{machine}"


def is_stale(library: Path = LIBRARY) -> bool:
    """Return whether a source is newer than the library."""
    sources = [*HERE.glob("*.[ch]"), Path(__file__)]
    return not library.exists() or library.stat().st_mtime < max(source.stat().st_mtime for source in sources)


def build(
    library: Path = LIBRARY, target: str | None = None, flags: tuple[str, ...] = (), program: Path | None = None
) -> None:
    """Compile the library for a target, or a program with all of it.

    Raises:
        RuntimeError: The compiler is missing, or refuses.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise RuntimeError("the compiler is missing: pip install ziglang")
    target = target or this_target()
    machine = target.split("-")[0]
    browsers = machine == "wasm32"
    # After a sanitizer's flag it would take it back.
    unchecked = () if any(flag.startswith("-fsanitize") for flag in flags) else ("-fno-sanitize=all",)
    if browsers:
        flags += _WASM_FLAGS
    with tempfile.TemporaryDirectory() as scratch:
        objects = []

        def compiled(source: Path, name: str, *more: str) -> None:
            objects.append(str(Path(scratch, f"{name}.o")))
            wanted = (*_FLAGS, *unchecked, f"-I{HERE}", *flags, *more)
            _compiler(scratch, "-target", target, *wanted, "-c", str(source), "-o", objects[-1])

        common = (*_COMMON, "alone.c" if browsers else "pool.c")
        for source in (*(HERE / name for name in common), *([program] if program else [])):
            compiled(source, source.name)
        for table, processor in _VARIANTS.get(machine, {"halfling_plain": "baseline"}).items():
            compiled(HERE / "kernels.c", table, f"-mcpu={processor}", f"-DTABLE={table}")
        made = Path(scratch, library.name)
        kind = () if program else ("-shared",)
        libraries: tuple[str, ...] = ("-lm", "-lpthread")
        if browsers:
            kind = ("-mexec-model=reactor", "-Wl,--strip-all", *(f"-Wl,--export={name}" for name in _WASM_EXPORTS))
            libraries = ("-lm", "-lwasi-emulated-mman", "-lwasi-emulated-getpid")
        _compiler(scratch, "-target", target, *kind, *flags, *objects, *libraries, "-o", str(made))
        # Whole or absent, for those who load it meanwhile.
        partial = library.with_name(f"{library.name}.{os.getpid()}")
        shutil.copy(made, partial)
        partial.replace(library)


def _compiler(scratch: str, *arguments: str) -> None:
    # What the compiler keeps for next time would lie about in folders that are not ours.
    places = {"ZIG_LOCAL_CACHE_DIR": scratch}
    done = subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", *arguments], env=os.environ | places, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"ziglang: {(done.stderr or done.stdout).strip()}")


if __name__ == "__main__":
    wanted = sys.argv[1] if sys.argv[1:] else None
    build(WASM if wanted == BROWSERS else LIBRARY, wanted)
