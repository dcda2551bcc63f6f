"""What a fresh process does to have its memory measured: load a model, answer, say the peak."""

import json
import sys
from pathlib import Path

from halfling.cost.memory import peak_bytes_of_this_process
from halfling.evaluate.runtime import load_runtime
from halfling.tasks.examples import TaggedExample, TextExample


def main() -> None:
    """Answer the batches of the work file that the command line names, and print the peak as JSON."""
    work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    runtime = load_runtime(Path(work["folder"]))
    for batch in work["batches"]:
        # JSON has lists only: a tagged example's first field is one.
        runtime.answer(
            [TextExample(*one) if isinstance(one[0], str) else TaggedExample(*map(tuple, one)) for one in batch],
            len(batch),
        )
    print(json.dumps({"peak_bytes": peak_bytes_of_this_process()}))  # noqa: T201


if __name__ == "__main__":
    main()
