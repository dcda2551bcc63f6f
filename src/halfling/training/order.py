"""The order of examples over all epochs, drawn from the seed alone.

The Trainer's length-grouped sampler draws it from the global random state, which differs after a resume.
"""

from collections.abc import Sequence

import numpy as np


def epochs_order(lengths: Sequence[int], *, epochs: int, batch_size: int, seed: int, once: int = 0) -> list[int]:
    """Return the numbers of examples of these lengths for all epochs, one after another, shuffled anew in each.

    The last `once` of them are shared out: one epoch reads each, at most, the others leave it out.

    `batch_size` is at most what an epoch reads. Batches hold examples of like length (sorted within pools of 50
    batches, batches shuffled), so that little is spent on padding; an epoch leaves out the few examples that fill no
    batch.
    """
    known = np.asarray(lengths)
    always, shared_out = np.split(np.arange(len(known)), [len(known) - once])
    order: list[int] = []
    for epoch in range(epochs):
        random = np.random.default_rng([seed, epoch])
        read = np.concatenate([always, shared_out[epoch::epochs]])
        if not len(read):
            continue
        whole = len(read) // batch_size * batch_size or len(read)
        # Cut to whole batches before sorting: which examples an epoch leaves out is chance, not their length.
        shuffled = random.permutation(read)[:whole]
        pools = [shuffled[i : i + 50 * batch_size] for i in range(0, whole, 50 * batch_size)]
        alike = np.concatenate([pool[np.argsort(-known[pool], kind="stable")] for pool in pools])
        batches = [alike[i : i + batch_size] for i in range(0, whole, batch_size)]
        order += np.concatenate([batches[n] for n in random.permutation(len(batches))]).tolist()
    return order
