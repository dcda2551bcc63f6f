"""What a fresh process does to have its memory measured: load a model, answer, say the peak."""

import json
import sys
from pathlib import Path
from typing import Any

from halfling.cost.memory import peak_bytes_of_this_process
from halfling.evaluate.network import load_network
from halfling.models.load import load_tokenizer
from halfling.tasks import TASKS
from halfling.tasks.predict import predict
from halfling.tasks.wikiann import NerExample
from halfling.tasks.xnli import NliExample


def main() -> None:
    """Answer the batches of the work file that the command line names, and print the peak as JSON."""
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    model = Path(work["model"])
    network, policy = load_network(work["task"], model, Path(work["policy"]) if work["policy"] else None)
    tokenizer, task = load_tokenizer(model), TASKS[work["task"]]
    for batch in work["batches"]:
        examples = [_example(work["task"], **fields) for fields in batch]
        predict(network, task.encode(examples, tokenizer, work["max_tokens"]), len(batch), policy=policy)
    print(json.dumps({"peak_bytes": peak_bytes_of_this_process()}))  # noqa: T201


def _example(task: str, **fields: Any) -> NliExample | NerExample:
    if task == "xnli":
        return NliExample(**fields)
    return NerExample(tokens=tuple(fields["tokens"]), tags=tuple(fields["tags"]))  # JSON has lists only


if __name__ == "__main__":
    main()
