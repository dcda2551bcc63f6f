"""What an installed tagger takes: peak memory, time from the command line to an answer, room on disk.

    python benchmarks/resident.py MODEL [--policy FILE] [--language sw] [--kept sw,en] [--peers] [--json FILE]

MODEL is a fine-tuned tagger's folder with its task. It is exported for the native engine, once with all pieces of its
vocabulary and once with those of `--kept`. Each peak is of a fresh process that answers 32 dev sentences, one by one
and then together; "of no file" is what of it no other process shares. `--peers` measures peers too, each loaded as its
own documentation says, without what it does not need: no torch beside ONNX Runtime or OpenVINO, `tokenizers` in place
of transformers.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from statistics import median
from typing import Any

from halfling.cost.memory import peak_bytes_of_this_process

THREADS = 2
LIMITS = {
    "whole, MB": 160.0,
    "kept, MB": 60.0,
    "whole: cold start, s": 0.35,
    "kept: cold start, s": 0.35,
    "installed without numpy, MB": 5.0,
}
Answer = Callable[[Any], Any]


def answers_of(kind: str, place: Path) -> Answer:
    """Return what answers texts in this process; only what it needs is imported."""
    if kind == "ours":
        from halfling.engine import AdaptiveEngine

        return AdaptiveEngine.from_pretrained(place, threads=THREADS).predict
    import runtimes
    from padding import Reader, Rival

    from halfling import json_text

    folder = place if place.is_dir() else place.parent
    config = json_text.read(folder / "config.json")
    labels = [name for _, name in sorted(config["id2label"].items(), key=lambda one: int(one[0]))]
    reader = Reader(folder, labels, config["max_position_embeddings"] - 2)
    if kind == "onnx":
        padded = runtimes.onnx_runtime(place, THREADS)
    elif kind == "openvino":
        padded = runtimes.OpenVino(place, THREADS, DYNAMIC_QUANTIZATION_GROUP_SIZE=64)
    else:
        import torch

        from halfling.models.classifier import load_classifier

        torch.set_num_threads(THREADS)
        padded = runtimes.transformers_eager(load_classifier(place).eval())
    return reader.through(Rival(padded))


def write_peers(model: Path, scratch: Path) -> dict[str, tuple[str, Path]]:
    """Write what peers load into one folder, and return each one's kind and file by name."""
    import runtimes

    from halfling.models.classifier import load_classifier
    from halfling.models.load import load_tokenizer

    network = runtimes.plain(load_classifier(model))
    network.save_pretrained(scratch)
    load_tokenizer(model).save_pretrained(scratch)
    graph = scratch / "graph.onnx"
    runtimes.write_onnx(network, graph)
    runtimes.write_openvino(network, graph.with_suffix(".xml"))
    return {
        "transformers, float32": ("transformers", scratch),
        "ONNX Runtime, dynamic int8": ("onnx", graph.with_suffix(".int8.onnx")),
        "OpenVINO, int8 weights, run-time scales": (
            "openvino",
            runtimes.quantise_openvino(graph.with_suffix(".xml"), runtimes.ROW_SCALES, ()),
        ),
    }


def memory(kind: str, place: Path, texts: Path) -> dict[str, int]:
    """Return what a fresh process that answers takes, in bytes: its peak, and what no other process shares."""
    command = [sys.executable, __file__, "--child", kind, str(place), str(texts)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    said: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return said


def own_bytes() -> int:
    """Return how much of this process's memory is no file's: pages of files are shared, and taken back at need."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def cold_start(folder: Path, text: str, goes: int = 5) -> float:
    """Return the median seconds of `halfling predict`, from the start of the process to its end."""
    took = []
    for _ in range(goes + 1):  # the first reads from the disk
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "halfling", "predict", str(folder), text], check=True, stdout=subprocess.DEVNULL
        )
        took.append(time.perf_counter() - start)
    return median(took[1:])


def installed() -> dict[str, int]:
    """Return the bytes of what `pip install halfling-nlp` brings, by distribution, without compiled Python files."""
    from packaging.requirements import Requirement

    import halfling

    own = Path(halfling.__file__).parent
    found = {"halfling-nlp": sum(path.stat().st_size for path in own.rglob("*") if _counts(path))}
    # As the checkout says: its own distribution may not be installed.
    needed = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["dependencies"]
    while needed:
        one = Requirement(needed.pop())
        if one.name in found or not (one.marker is None or one.marker.evaluate({"extra": ""})):
            continue
        there = distribution(one.name)
        files = (Path(str(file.locate())) for file in there.files or ())
        found[one.name] = sum(path.stat().st_size for path in files if _counts(path))
        needed += there.requires or ()
    return found


def _counts(path: Path) -> bool:
    return path.is_file() and path.suffix != ".pyc"


def measure(model: Path, policy: Path | None, language: str, kept: str, *, peers: bool, scratch: Path) -> Any:
    """Return every figure."""
    from candidates import read_policy, text_of

    from halfling.exits.calibration import Calibration
    from halfling.export.write import ExportSettings, export
    from halfling.tasks.examples import dev_examples
    from halfling.tasks.of_model import task_of

    task = task_of(model)
    if task.kind != "tagging":
        raise SystemExit(f"{model}: no tagger: name a tagger's folder")
    given = [text_of(one) for one in dev_examples(task, (language,), 32)[language]]
    (texts := scratch / "texts.json").write_text(json.dumps(given), encoding="utf-8")
    told = None
    if policy:
        (told := scratch / "policy").mkdir()
        Calibration(task=task.name, policy=read_policy(policy), curve=()).write(told / "exit_policy.json")
    made = {}
    for name, languages in {"whole": None, **({"kept": tuple(kept.split(","))} if kept else {})}.items():
        (out := scratch / name).mkdir()
        export(settings=ExportSettings(languages=languages, max_int8_drop=None), model=model, out=out, policy=told)
        made[name] = out
    sizes = installed()
    others = write_peers(model, scratch) if peers else {}
    took = {name: memory("ours", folder, texts) for name, folder in made.items()}
    took |= {name: memory(kind, place, texts) for name, (kind, place) in others.items()}
    return {
        "peak_bytes": {name: one["peak_bytes"] for name, one in took.items()},
        "own_bytes": {name: one["own_bytes"] for name, one in took.items()},
        "cold_start_seconds": {name: cold_start(folder, " ".join(given[0])) for name, folder in made.items()},
        "installed_bytes": dict(sorted(sizes.items(), key=lambda one: -one[1])),
    }


def report(found: Any) -> str:
    """Return the figures beside their limits, in Markdown."""
    ours = {f"{name}, MB": found["peak_bytes"][name] / 1e6 for name in found["cold_start_seconds"]}
    ours |= {f"{name}: cold start, s": seconds for name, seconds in found["cold_start_seconds"].items()}
    sizes = found["installed_bytes"]
    ours["installed without numpy, MB"] = sum(size for name, size in sizes.items() if name != "numpy") / 1e6
    lines = ["| halfling | | limit | |", "|---|---:|---:|---|"]
    for name, value in ours.items():
        met = "pass" if value <= LIMITS[name] else "FAIL"
        lines.append(f"| {name} | {value:.3f} | {LIMITS[name]:g} | {met} |")
    lines += [f"| installed: {name}, MB | {size / 1e6:.2f} | | |" for name, size in sizes.items() if size > 1e5]
    others = {name: size for name, size in found["peak_bytes"].items() if name not in ("whole", "kept")}
    lines += [f"| {name}: peak, MB | {size / 1e6:.0f} | | |" for name, size in others.items()]
    lines += [f"| {name}: of no file, MB | {size / 1e6:.0f} | | |" for name, size in found["own_bytes"].items()]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write JSON where asked; a child answers, and prints its memory as JSON."""
    if sys.argv[1:2] == ["--child"]:
        kind, place, texts = sys.argv[2:]
        answer, given = answers_of(kind, Path(place)), json.loads(Path(texts).read_text(encoding="utf-8"))
        for one in given:
            answer([one])
        answer(given)
        print(json.dumps({"peak_bytes": peak_bytes_of_this_process(), "own_bytes": own_bytes()}))
        return
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", type=Path)
    options.add_argument("--policy", type=Path, help="a calibration's exit_policy.json")
    options.add_argument("--language", default="sw", help="whose dev sentences are answered: %(default)s")
    options.add_argument("--kept", default="sw,en", help="languages of the smaller vocabulary, or nothing: %(default)s")
    options.add_argument("--peers", action="store_true", help="measure peers too")
    options.add_argument("--json", type=Path, help="write every figure here")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="halfling-resident-") as folder:
        found = measure(
            chosen.model, chosen.policy, chosen.language, chosen.kept, peers=chosen.peers, scratch=Path(folder)
        )
    print(report(found))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
