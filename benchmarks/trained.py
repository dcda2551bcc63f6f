"""What a trained model's own exits bring in the engine: arithmetic spared beside time spared, in six languages.

    python benchmarks/trained.py MODEL CALIBRATION DATA [--precision P ...] [--sentences N] [--rounds N] [--json FILE]

MODEL is an early-exit model (`halfling exits`), CALIBRATION a folder that `halfling calibrate` wrote for it, for
example with `--flops-share 0.686`. Both precisions are exported to OpenVINO with the policy and without; the first dev
sentences of each language are answered with and without exits, interleaved, one by one and in batches of 32.
realisation is the time share divided by the share of the arithmetic; quartiles are over rounds. A model too narrow for
its exits to spare time can be widened first: benchmarks/widen.py.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rivals import THREADS
from workload import LANGUAGES, read_sentences, scratch_folder

from halfling.cost.flops import Head, flops
from halfling.cost.latency import interleaved, paired_ratio
from halfling.engine import AdaptiveEngine, Encoded
from halfling.engine.exported import Precision
from halfling.exits.policy import Calibration
from halfling.export.write import export
from halfling.models import XLMRobertaEarlyExitConfig
from halfling.models.load import load_tokenizer
from halfling.models.shapes import shape_of

BATCH = 32
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")
LENGTHS: dict[Precision, range] = {"float32": range(8, 129, 8), "int8": range(4, 129)}
"""Of a sentence alone, as in benchmarks/inference.py: each length in use holds the layers again."""


def share(engine: AdaptiveEngine, sequences: list[Encoded]) -> float:
    """Return the arithmetic that is left of no exits, all classifiers counted."""
    taken = [answer.exit_layer for answer in engine.answer(sequences)]
    shape, kind, classes = engine.exported.shape, engine.exported.kind, len(engine.exported.labels)
    lengths = [len(one.ids) for one in sequences]
    early = Head(kind=kind, num_classes=classes, layers=engine.exported.policy.layers)
    whole = flops(shape, lengths, [shape.num_layers] * len(lengths), Head(kind=kind, num_classes=classes))
    return flops(shape, lengths, taken, early).total / whole.total


def measure(engines: dict[str, AdaptiveEngine], sequences: list[Encoded], size: int, rounds: int) -> dict[str, Any]:
    """Return shares of arithmetic and time at one batch size."""
    calls = [sequences[start : start + size] for start in range(0, len(sequences), size)]

    def answer(engine: AdaptiveEngine) -> None:
        for call in calls:
            engine.answer(call)

    took = interleaved(
        {name: lambda engine=engine: answer(engine) for name, engine in engines.items()}, rounds=rounds, warmup=2
    )
    ratio, left = paired_ratio(took["exits"], took["off"]), share(engines["exits"], sequences)
    return {"flops_share": left, "time_share": ratio.model_dump(), "realisation": ratio.median / left}


def main() -> None:
    """Export, measure, print, and write JSON where asked."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", type=Path)
    options.add_argument("calibration", type=Path)
    options.add_argument("data", type=Path)
    options.add_argument("--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    options.add_argument("--sentences", type=int, default=64, help="of each language")
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--json", type=Path, help="write every figure here")
    chosen = options.parse_args()
    calibration, tokenizer = Calibration.read(chosen.calibration / "exit_policy.json"), load_tokenizer(chosen.model)
    task = calibration.task
    if calibration.policy.granularity == "token":
        raise SystemExit("where tokens leave alone, answers tell the deepest exit only: calibrate for sentences")
    most = shape_of(XLMRobertaEarlyExitConfig.from_pretrained(chosen.model)).max_tokens
    sentences = read_sentences(task, chosen.data, tokenizer, chosen.sentences, max_tokens=most)
    found: dict[str, Any] = {}
    print(f"{'precision':10} {'batch':>5} {'':4} {'flops':>6} {'time':>6} [quartiles]     realisation")
    with scratch_folder() as scratch:
        for precision in chosen.precision:
            engines = {}
            for name, policy in (("off", None), ("exits", chosen.calibration)):
                out = Path(scratch) / f"{precision}-{name}"
                export(model=chosen.model, out=out, precision=precision, policy=policy, data=chosen.data)
                engines[name] = AdaptiveEngine.from_pretrained(out, "openvino", THREADS, LENGTHS[precision])
            for size in (1, BATCH):
                for code in LANGUAGES:
                    row = measure(engines, sentences[code].encoded, size, chosen.rounds)
                    found[f"{precision} batch {size} {code}"] = row
                    time = row["time_share"]
                    print(
                        f"{precision:10} {size:5} {code:4} {row['flops_share']:6.3f} {time['median']:6.3f} "
                        f"[{time['lower']:.3f}, {time['upper']:.3f}]  {row['realisation']:6.3f}"
                    )
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
