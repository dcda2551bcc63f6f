"""What each stage of a run will take, said before anything is spent: tokens, steps, memory, device-hours, disk."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from halfling.bounds import Processes
from halfling.fingerprint import manifest_of
from halfling.pipeline.foreseen import Foreseen, kind_of
from halfling.pipeline.trainings import Estimate
from halfling.records import Settings
from halfling.stage import Stage

PEAK_TFLOPS = {"h100": 989.0, "h200": 989.0, "a100": 312.0}
"""What the maker names: dense bfloat16 operations a second, in 10^12."""


class EstimateSettings(Settings):
    """By what rate `--dry-run` turns arithmetic into hours; no stage reads it."""

    chip: Literal["h100", "h200", "a100"] | None = Field(
        None, description="whose named peak counts; none: seconds of stages of the kind that are done here"
    )
    peak_tflops: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="of another chip: 10^12 operations a second in bfloat16, as named",
    )
    of_peak: float = Field(
        0.08, gt=0, le=1, description="share of the peak that training reaches, assumed; docs/benchmarks.md has some"
    )
    devices: Processes = Field(1, description="that share the work of each stage that trains")

    @model_validator(mode="after")
    def _one_peak(self) -> "EstimateSettings":
        if self.chip and self.peak_tflops:
            raise ValueError("chip and peak_tflops: say one of them")
        return self

    @property
    def peak(self) -> float | None:
        """The named peak in 10^12 operations a second."""
        return PEAK_TFLOPS[self.chip] if self.chip else self.peak_tflops


class Rates:
    """Operations a second of each kind of stage."""

    def __init__(self, settings: EstimateSettings, done: Mapping[str, tuple[float, float]]) -> None:
        """Take what is named, or what was measured: kind -> operations and seconds of its finished stages."""
        self.settings = settings
        self.measured = {kind: flops / seconds for kind, (flops, seconds) in done.items() if flops and seconds}

    def hours(self, kind: str, flops: float | None, *, float32: bool = False) -> float | None:
        """Return the device-hours of some operations; a peak in bfloat16 says nothing of float32."""
        peak = self.settings.peak
        if flops is None or (peak and float32):
            return None
        rate = peak * 1e12 * self.settings.of_peak if peak else self.measured.get(kind)
        return flops / rate / 3600 if rate else None

    def said(self) -> str:
        """Return in words where hours come from."""
        named = self.settings
        if named.peak:
            whose = f"that {named.chip}'s maker names" if named.chip else "named"
            share = f"{named.of_peak:.1%} of the {named.peak:g} TFLOP/s {whose}, the share assumed"
            return f"{share}: {named.peak * named.of_peak:.1f} TFLOP/s"
        if self.measured:
            found = (f"{kind} {rate / 1e12:.3g} TFLOP/s" for kind, rate in self.measured.items())
            return f"measured here, in finished stages: {', '.join(found)}"
        return "not known: set estimate.chip=h100, or finish a stage of the kind"


def estimates(
    stages: Sequence[Stage], states: Sequence[str], settings: EstimateSettings, sample_sentences: int | None = None
) -> tuple[list[Estimate], Rates]:
    """Return what each stage of a plan takes, and by what rates; nothing is fetched and nothing written.

    Args:
        stages: In their order.
        states: `stage.states` of them: what is done is read.
        settings: Of rates and devices.
        sample_sentences: Training sentences of the embedded sample, where a task's data are to be written yet.
    """
    walk = Foreseen(settings.devices, sample_sentences)
    found = [walk.stage(stage, done=state == "done") for stage, state in zip(stages, states, strict=True)]
    spent: dict[str, tuple[float, float]] = {}
    for stage, state, one in zip(stages, states, found, strict=True):
        kind, manifest = kind_of(stage), manifest_of(stage.out)
        if state == "done" and manifest and one.flops:
            flops, seconds = spent.get(kind, (0.0, 0.0))
            spent[kind] = flops + one.flops, seconds + manifest.seconds
    rates = Rates(settings, spent)
    timed = []
    for stage, one in zip(stages, found, strict=True):
        float32 = getattr(stage.settings, "precision", "") == "float32"
        hours = rates.hours(kind_of(stage), one.flops, float32=float32)
        timed.append(one.model_copy(update={"device_hours": hours}))
    return timed, rates
