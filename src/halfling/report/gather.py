"""Read what the earlier stages measured and join it into the rows of `results.csv`."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from halfling.errors import HalflingError
from halfling.exits.calibration import Calibration
from halfling.records import Record
from halfling.results import Case, Cost, MaskedLoss, MeasuredDrop, NamedOrigin, Quality, Result

CALIBRATION_FILE, ORIGINS_FILE, INT8_FILE = "exit_policy.json", "origins.jsonl", "int8.jsonl"
_LINES: dict[str, tuple[str, type[Record]]] = {
    "quality.jsonl": ("qualities", Quality),
    "costs.jsonl": ("costs", Cost),
    "masked_lm.jsonl": ("masked_losses", MaskedLoss),
    ORIGINS_FILE: ("origins", NamedOrigin),
    INT8_FILE: ("int8_drops", MeasuredDrop),
}
"""By file: where in `Findings` its lines go, and what each is."""


class Findings(NamedTuple):
    """All that the input folders hold."""

    qualities: list[Quality]
    costs: list[Cost]
    masked_losses: list[MaskedLoss]
    origins: list[NamedOrigin]
    int8_drops: list[MeasuredDrop]
    calibrations: dict[str, Calibration]
    """By the role's last word: the input `calibrate student-intents-0` is `student-intents-0`."""


def gather(inputs: Mapping[str, Path]) -> Findings:
    """Return the records of every input folder, by role.

    Raises:
        HalflingError: A folder holds none of these files, a file holds something else, or two
            calibrations have one name.
    """
    found = Findings([], [], [], [], [], {})
    for role, folder in inputs.items():
        there = [name for name in (*_LINES, CALIBRATION_FILE) if (folder / name).exists()]
        if not there:
            alone = [name for name in _LINES if name not in (ORIGINS_FILE, INT8_FILE)]  # the others lie beside these
            names = f"{', '.join(alone)} or {CALIBRATION_FILE}"
            raise HalflingError(f"{folder}: holds no {names}: run the evaluation first, or leave {role} out")
        for file, (field, kind) in _LINES.items():
            if file in there:
                getattr(found, field).extend(kind.read_lines(folder / file))
        if CALIBRATION_FILE in there:
            name = role.rpartition("/")[2]
            if name in found.calibrations:
                raise HalflingError(f"{folder}: a second calibration named {name}: rename one of them")
            found.calibrations[name] = Calibration.read(folder / CALIBRATION_FILE)
    return found


def join(qualities: list[Quality], costs: list[Cost]) -> list[Result]:
    """Return a row for each quality, with the cost of its case; sorted by case, then seed.

    Raises:
        HalflingError: Something was measured twice, one of the two is missing, or costs of one task were not
            measured in the same rounds.
    """
    own: dict[tuple[object, ...], Quality] = {}
    twice = set()
    for quality in qualities:
        key = (*_case(quality), quality.seed)
        # A policy that lets nobody exit is the model without exits: measured twice, with the same answers.
        if own.setdefault(key, quality) is not quality:
            if own[key] != quality:
                raise HalflingError(f"{_named(quality)}, seed {quality.seed}: two qualities; give each one once")
            twice.add(_case(quality))
    cost_of: dict[tuple[object, ...], Cost] = {}
    rounds: dict[str, int] = {}
    for cost in costs:
        if cost_of.setdefault(_case(cost), cost) is not cost and _case(cost) not in twice:
            raise HalflingError(f"{_named(cost)}: two costs; give each model's costs once")
        if {len(cost.rounds_ms_b1), len(cost.rounds_ms_b32)} != {rounds.setdefault(cost.task, len(cost.rounds_ms_b1))}:
            raise HalflingError(f"{_named(cost)}: timed in more or fewer rounds than others; time all models together")
    rows: dict[tuple[object, ...], Result] = {}
    for key, quality in own.items():
        matching = cost_of.get(_case(quality))
        if matching is None:
            raise HalflingError(f"{_named(quality)}: quality without cost; measure its cost too")
        sources = {name: quality if name in Quality.model_fields else matching for name in Result.model_fields}
        rows[key] = Result(**{name: getattr(source, name) for name, source in sources.items()})
    for cost in costs:
        if not any(key[:-1] == _case(cost) for key in rows):
            raise HalflingError(f"{_named(cost)}: cost without quality; evaluate its quality too")
    return [rows[key] for key in sorted(rows)]


def _case(record: Case) -> tuple[object, ...]:
    return tuple(getattr(record, name) for name in Case.model_fields)


def _named(record: Case) -> str:
    return f"{record.model} ({record.form.label}) on {record.task} in {record.language}"
