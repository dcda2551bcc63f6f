"""How often does a guess of the language count, how often is it right, and what does it take?

    python benchmarks/guess.py MODEL [MODEL ...] [--most 2000]

MODEL is a model's folder with its task. The first `--most` dev texts of each language are guessed as
`language="auto"` does, among all languages that py3langid knows. Times are of this process, a mean over texts.
"""

import argparse
import time
from pathlib import Path

from halfling.engine.guess import guessed
from halfling.tasks.examples import TaggedExample, read_examples
from halfling.tasks.of_model import task_of


def main() -> None:
    """Print a line for each task and language."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--most", type=int, default=2000)
    given = parser.parse_args()
    guessed("")  # loads the model of the languages
    print("| task | language | texts | sure, % | right where sure, % | microseconds |\n|---|---|---:|---:|---:|---:|")
    for model in given.models:
        task = task_of(model)
        for code in task.languages:
            texts = [
                list(one.words) if isinstance(one, TaggedExample) else " ".join(filter(None, (one.text, one.text_pair)))
                for one in read_examples(task, "dev", code)[: given.most]
            ]
            began = time.process_time()
            sure = [found for text in texts if (found := guessed(text)) is not None]
            took = 1e6 * (time.process_time() - began) / len(texts)
            right = 100 * sum(found == code for found in sure) / max(1, len(sure))
            share = 100 * len(sure) / len(texts)
            print(f"| {task.name} | {code} | {len(texts)} | {share:.0f} | {right:.1f} | {took:.0f} |", flush=True)


if __name__ == "__main__":
    main()
