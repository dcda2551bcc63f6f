"""Models that evaluation is tried on: as they were trained, and as they are served."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def write_model(
    tmp_path: Path, tiny_tasks: dict[str, Any], write_classifier: Callable[..., Path]
) -> Callable[..., Path]:
    """A function that writes a random model for one of the tiny tasks, with exits after the layers named."""

    def write(name: str, task: str, exits: list[int] | None = None, **changes: Any) -> Path:
        return write_classifier(tmp_path / name, tiny_tasks[task], exits, **changes)

    return write


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Path]:
    """A function that exports a model, with one threshold for some exits where one is named."""
    from halfling.exits.calibration import Calibration
    from halfling.exits.policy import ExitPolicy
    from halfling.export.write import ExportSettings, export

    def make(
        model: Path,
        threshold: float | None = None,
        layers: tuple[int, ...] = (1, 3),
        precision: str = "float32",
        **more: Any,
    ) -> Path:
        name = f"{model.name}-{threshold}-{precision}-{len(layers)}"
        policy = None
        if threshold is not None:
            (policy := tmp_path / f"policy-{name}").mkdir()
            chosen = ExitPolicy.uniform(layers, threshold, **more)
            Calibration(task="any", policy=chosen, curve=()).write(policy / "exit_policy.json")
        (out := tmp_path / f"served-{name}").mkdir()
        settings = ExportSettings(backends=("onnx",), precision=precision, max_int8_drop=100)  # random weights
        export(settings=settings, model=model, out=out, policy=policy)
        return out

    return make
