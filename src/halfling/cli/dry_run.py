"""What a dry run prints of each stage."""

from collections.abc import Iterable, Sequence

from halfling.cli.columns import in_columns
from halfling.pipeline.trainings import Estimate

ESTIMATES = (
    "All of it is estimated, but for tokens of what is packed: tokens by bytes of text, memory and disk by shapes, at "
    "most where lengths are not known.\nNot counted: fetching, cleaning, calibration and measuring."
)


def dry_run_table(names: Sequence[str], states: Sequence[str], taken: Sequence[Estimate], devices: int = 1) -> str:
    """Return a line for each stage, and the sums of those that are not done; `devices` share each training."""
    rows: list[tuple[str, ...]] = [
        ("     stage", "shape", "tokens", "steps", "GiB a device", "device-hours", "GB on disk")
    ]
    rows += [
        (f"{number:>3}  {name}", *_cells(one))
        for number, (name, one) in enumerate(zip(names, taken, strict=True), start=1)
    ]
    left = [one for one, state in zip(taken, states, strict=True) if state != "done"]
    trained = [one for one in left if one.checkpoint_bytes]
    sums = _sums(left, trained)
    rows.append(("     not done, in all", *_cells(sums)))
    lines = zip(in_columns(rows).splitlines(), ("state", *states, ""), strict=True)
    table = "\n".join(f"{line}  {state}".rstrip() for line, state in lines)
    if not trained:
        return table
    untimed = sum(one.device_hours is None for one in trained)
    more = max(one.checkpoint_bytes or 0 for one in trained)
    said = [
        f"{len(trained)} stages train; at most {more / 1e9:,.2f} GB of checkpoints and of a teacher's states beside, "
        "while the largest does"
    ]
    if untimed:
        said.append(f"hours without {untimed} of them")
    if devices > 1 and sums.device_hours:
        said.append(f"on {devices} devices {sums.device_hours / devices:.3g} hours, if none waits for another")
    return f"{table}\n{'; '.join(said)}"


def _sums(left: Sequence[Estimate], trained: Sequence[Estimate]) -> Estimate:
    """Return what is left: tokens, steps and hours of training, its largest memory, and all that stays on disk."""
    return Estimate(
        tokens=_sum(one.tokens for one in trained),
        steps=_sum(one.steps for one in trained),
        device_bytes=max((one.device_bytes or 0 for one in trained), default=None),
        device_hours=_sum(one.device_hours for one in trained),
        disk_bytes=_sum(one.disk_bytes for one in left),
    )


def _sum(some: Iterable[float | None]) -> int | float | None:
    known = [one for one in some if one is not None]
    return sum(known) if known else None


def _cells(one: Estimate) -> tuple[str, ...]:
    sizes = (one.device_bytes, 2**30, ".1f"), (one.device_hours, 1, ".3g"), (one.disk_bytes, 1e9, ",.2f")
    return (
        one.shape or "-",
        *("-" if number is None else f"{number:,}" for number in (one.tokens, one.steps)),
        *("-" if size is None else format(size / unit, form) for size, unit, form in sizes),
    )
