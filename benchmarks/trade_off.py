"""What early exit costs and saves on real data: quality, arithmetic and time in every language, for what one may ask.

    python benchmarks/trade_off.py MODEL DATA TASK [--examples N] [--dev N] [--json FILE]

MODEL is an early-exit model (`halfling exits`), DATA a data folder. For sentence exits, and for a tagger's token exits,
policies are calibrated on English dev for drops of at most 0.5, 1 and 2 points (upper bound) and for the arithmetic
that the thesis spent (flops_share 0.686); no time is measured to choose them. Each policy then answers the dev split of
every language, and its time on 32 of those sentences, one by one, is measured beside that of no exits, interleaved.
"""

import argparse
import json
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from halfling.calibrate.score import resamples
from halfling.evaluate.network import mean_gflops

from halfling.calibrate import CalibrateSettings
from halfling.calibrate.curve import Drawing, Wish
from halfling.calibrate.simulate import Trial
from halfling.cost.latency import interleaved_medians
from halfling.exits.policy import ExitPolicy
from halfling.languages import SETS
from halfling.models import EARLY_EXIT_MODELS
from halfling.models.load import load_model, load_tokenizer
from halfling.tasks import TASKS
from halfling.tasks.predict import predict

WISHES = {f"drop {limit}": Wish("max_drop", limit) for limit in (0.5, 1.0, 2.0)} | {
    "flops 0.686": Wish("flops_share", 0.686)
}
TIMED = 32


def policies(network: Any, encoded: Any, task: str, granularities: list[str]) -> dict[str, ExitPolicy]:
    """Return the policies that English dev gives for each wish, by name; no exits first."""
    settings = CalibrateSettings(task=task)
    layers = tuple(network.config.exit_layers)
    plain = ExitPolicy(layers=layers[-1:], thresholds=())
    found = {"no exits": plain}
    for granularity in granularities if task == "wikiann" else ["sentence"]:
        like = plain.model_copy(update={"granularity": granularity})
        trial = Trial(task, network, encoded, like, settings.batch_size)
        draws = resamples(len(encoded.rows), settings.resamples, settings.seed)
        drawing = Drawing(trial, None, draws, settings.confidence)
        for wish in WISHES.values():
            drawing.close_in(wish, settings.max_exits)
        for name, wish in WISHES.items():
            point = wish.choose(drawing.curve)
            if point is not None:
                update = {"layers": point.layers, "thresholds": point.thresholds}
                found[f"{granularity} {name}"] = like.model_copy(update=update)
                print(
                    f"{granularity:8} {name:12} exits {point.layers} thresholds {point.thresholds}; on English dev: "
                    f"drop {point.drop:.2f} (bound {point.drop_bound:.2f}), flops_share {point.flops_share:.3f}"
                )
    return found


def answer(network: Any, policy: ExitPolicy, encoded: Any, batch_size: int) -> Any:
    """Return a model's answers under a policy."""
    return predict(network, encoded, batch_size, policy=policy)


def measure(network: Any, encoded: Any, task: str, found: dict[str, ExitPolicy], rounds: int) -> dict[str, Any]:
    """Return what each policy does in one language."""
    few = replace(
        encoded,
        rows=encoded.rows[:TIMED],
        gold=encoded.gold[:TIMED],
        word_positions=encoded.word_positions and encoded.word_positions[:TIMED],
    )
    calls = {name: partial(answer, network, policy, few, 1) for name, policy in found.items()}
    times = interleaved_medians(calls, rounds=rounds, warmup=1)
    rows, gflops, timed = {}, {}, {}
    for name, policy in found.items():
        timed[name] = mean_gflops(network, task, answer(network, policy, few, 1), policy)
        answers = answer(network, policy, encoded, 64)
        score = TASKS[task].score(encoded.gold, answers.labels)
        gflops[name] = mean_gflops(network, task, answers, policy)
        left = Counter(answers.exits_taken)
        rows[name] = {
            "f1": 100 * score.f1,
            "accuracy": 100 * score.accuracy,
            "flops_share": gflops[name] / gflops["no exits"],
            "time_share": times[name].median_ms / times["no exits"].median_ms,
            "timed_flops_share": timed[name] / timed["no exits"],
            "exit_percent": {layer: round(100 * left[layer] / left.total(), 1) for layer in sorted(left)},
        }
    return rows


def main() -> None:
    """Calibrate, answer, measure, print, and write JSON where asked."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", type=Path)
    options.add_argument("data")
    options.add_argument("task", choices=[*TASKS])
    options.add_argument("--examples", type=int, help="only the first so many of each language; all")
    options.add_argument("--dev", type=int, help="calibrate on the first so many of English dev; all")
    options.add_argument("--rounds", type=int, default=5, help="of every timing")
    options.add_argument("--languages", nargs="+", default=list(SETS["thesis-6"]))
    options.add_argument("--granularities", nargs="+", default=["sentence", "token"], help="who leaves")
    options.add_argument("--json", type=Path, help="write every figure here")
    chosen = options.parse_args()
    task, tokenizer = TASKS[chosen.task], load_tokenizer(chosen.model)
    network = load_model(EARLY_EXIT_MODELS[chosen.task], chosen.model).eval()

    def encoded(language: str, most: int | None) -> Any:
        return task.encode(task.read(chosen.data, "dev", language)[:most], tokenizer, 128)

    found = policies(network, encoded("en", chosen.dev), chosen.task, chosen.granularities)
    by_language = {}
    with torch.inference_mode():
        for language in chosen.languages:
            by_language[language] = measure(
                network, encoded(language, chosen.examples), chosen.task, found, chosen.rounds
            )
    headline = task.headline
    columns = f"{'F1':>6} {'acc':>6} {'change':>7} {'flops':>6} {'time':>6} {'t.flops':>7}"
    print(f"\n{'policy':22} {'':4} {columns}  left after layer, %")
    for name in found:
        for language, rows in by_language.items():
            row = rows[name]
            change = row[headline] - rows["no exits"][headline]
            print(
                f"{name:22} {language:4} {row['f1']:6.2f} {row['accuracy']:6.2f} {change:+7.2f} "
                f"{row['flops_share']:6.3f} {row['time_share']:6.3f} {row['timed_flops_share']:7.3f}  "
                f"{row['exit_percent']}"
            )
        others = [rows for language, rows in by_language.items() if language != "en"]
        if others:
            means = {
                key: fmean(rows[name][key] for rows in others)
                for key in ("f1", "accuracy", "flops_share", "time_share", "timed_flops_share")
            }
            change = fmean(rows[name][headline] - rows["no exits"][headline] for rows in others)
            print(
                f"{name:22} zero {means['f1']:6.2f} {means['accuracy']:6.2f} {change:+7.2f} "
                f"{means['flops_share']:6.3f} {means['time_share']:6.3f} {means['timed_flops_share']:7.3f}"
            )
    if chosen.json:
        policies_used = {name: policy.model_dump() for name, policy in found.items()}
        chosen.json.write_text(json.dumps({"policies": policies_used, "languages": by_language}, indent=1) + "\n")


if __name__ == "__main__":
    main()
