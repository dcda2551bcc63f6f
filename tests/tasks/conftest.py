"""Data for the tests of tasks."""

from collections.abc import Callable
from pathlib import Path

import datasets
import pytest


@pytest.fixture
def write_hub_form(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[dict[str, list], datasets.Features], str]:
    """A function that writes rows as the hub stores a data set, and its source: Parquet, "en" and "validation"."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)

    def write(rows: dict[str, list], features: datasets.Features) -> str:
        folder = tmp_path / "hub-form"
        (folder / "en").mkdir(parents=True)
        (folder / "README.md").write_text(
            "---\nconfigs:\n- config_name: en\n  data_files:\n  - split: validation\n    path: en/validation-*\n---\n"
        )
        data = datasets.Dataset.from_dict(rows, features=features)
        data.to_parquet(folder / "en" / "validation-00000-of-00001.parquet")
        return f"hub:{folder}:en:validation"

    return write
