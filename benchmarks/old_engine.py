"""The engine of an older commit of this repository, over OpenVINO in int8, in a process of its own.

benchmarks/peers.py starts this file with the older commit's `src` in front, and tells it line by line what to do.
Rounds are computed by the child, from text to answers, so that no sentence pays for the pipe.
Any commit will do whose `AdaptiveEngine.from_pretrained` takes `lengths`: until the native engine was the default.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

LENGTHS = range(4, 97)
"""Of rows that have a graph of their own, as its best setting has for sentences alone."""


class OldEngine:
    """An older engine that answers texts and computes rounds.

    Attributes:
        names: Its settings, as rows are called.
    """

    def __init__(self, checkout: Path, model: Path, policy: Any, threads: int, scratch: Path) -> None:
        """Export the model by the older commit's code and load it."""
        self.names = {"off": "halfling before, OpenVINO int8, exits off"}
        if policy is not None and policy.is_early:
            self.names["exits"] = "halfling before, OpenVINO int8, exits"
        told = {
            "checkout": str(checkout.resolve()),
            "model": str(model.resolve()),
            "policy": policy and policy.model_dump(mode="json"),
            "threads": threads,
            "scratch": str(scratch / "old"),
        }
        self.child = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": str((checkout / "src").resolve())},
        )
        self._ask(told)

    def answer(self, key: str, texts: Any) -> list[Any]:
        """Return the answers of one of its settings."""
        return self._ask({"engine": key, "batches": [texts]})[0]

    def load(self, rounds: dict[str, Any]) -> None:
        """Say which batches a round of each name reads."""
        self._ask({"rounds": rounds})

    def round(self, key: str, name: str) -> None:
        """Compute a round."""
        self._ask({"engine": key, "round": name})

    def close(self) -> None:
        """End the process."""
        self.child.communicate()

    def _ask(self, what: Any) -> Any:
        assert self.child.stdin
        assert self.child.stdout
        self.child.stdin.write(json.dumps(what) + "\n")
        self.child.stdin.flush()
        said = self.child.stdout.readline()
        if not said:
            self.close()
            raise SystemExit(f"the older engine ended with status {self.child.returncode}")
        return json.loads(said)


def load(told: Any) -> dict[str, Any]:
    """Export and load both settings, in the older commit's own code."""
    import halfling

    if not Path(halfling.__file__).is_relative_to(told["checkout"]):
        raise SystemExit(f"{told['checkout']}: holds no src/halfling: name a checkout of this repository")
    from halfling.engine import AdaptiveEngine
    from halfling.exits.calibration import Calibration
    from halfling.exits.policy import ExitPolicy
    from halfling.export.write import ExportSettings, export

    found = {}
    for key, policy in (("off", None), ("exits", told["policy"])):
        if key == "exits" and not policy:
            continue
        out, place = (Path(told["scratch"]) / f"{key}{end}" for end in ("", "-policy"))
        out.mkdir(parents=True)
        place.mkdir()
        model = Path(told["model"])
        if policy:
            made = ExitPolicy.model_validate(policy)
            Calibration(task="any", policy=made, curve=()).write(place / "exit_policy.json")
        settings = ExportSettings(backends=("openvino",), precision="int8")
        export(settings=settings, model=model, out=out, policy=place if policy else None)
        found[key] = AdaptiveEngine.from_pretrained(out, "openvino", told["threads"], LENGTHS)
    return found


def main() -> None:
    """Do what is asked, line by line, until there is no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    engines, rounds = load(json.loads(sys.stdin.readline())), {}
    said: Any = None
    while True:
        answers.write(json.dumps(said) + "\n")
        answers.flush()
        line = sys.stdin.readline()
        if not line:
            return
        asked = json.loads(line)
        rounds |= asked.get("rounds", {})
        said = None
        if "engine" in asked:
            batches = asked.get("batches") or rounds[asked["round"]]
            found = [engines[asked["engine"]].predict(batch) for batch in batches]
            if "batches" in asked:
                said = [[one.label if one.tags is None else one.tags for one in batch] for batch in found]


if __name__ == "__main__":
    main()
