"""What all tests share: annotations are checked as the code runs, and one thread computes."""

import os

from jaxtyping import install_import_hook

# Before anything imports torch: tests are small, and on a busy machine a second thread waits for the first.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

# The command line is annotated for typer, whose parameters beartype knows nothing of.
install_import_hook("halfling", "beartype.beartype")
