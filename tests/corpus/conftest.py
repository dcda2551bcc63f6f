import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from halfling.corpus.sources import download


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A host of the folder `served`, as `host.py` says; nobody waits for it."""
    spec = importlib.util.spec_from_file_location("host", Path(__file__).with_name("host.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["host"] = module
    spec.loader.exec_module(module)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    waits: list[float] = []
    monkeypatch.setattr(download, "sleep", waits.append)
    (tmp_path / "served").mkdir()
    with module.serve(tmp_path / "served") as served:
        served.waits = waits
        yield served
    del sys.modules["host"]
