"""What the figures of benchmarks/peers.py say: who passes, which limits are met, and the tables."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from candidates import NONE, OFF, ON

_SOUND = 5.0
"""Points of mean drop below which a peer still computes the model."""


def limits(width: int) -> dict[str, tuple[str, float, float]]:
    """Return what a model of a width is held against: at most or at least so much, alone and in 32."""
    narrow = width < 768
    return {
        "realisation": ("<=", 1.03, 1.05),
        "none taken / exits off": ("<=", 1.01, 1.01),
        "fastest that passes / exits": (">=", *((4.0, 2.2) if narrow else (1.8, 1.8))),
        "fastest that passes / exits off": (">=", 1.0, 1.0),
        "fastest OpenVINO / exits off": (">=", 1.0, 1.0),
        "old engine / exits": (">=", *((3.5, 2.0) if narrow else (1.25, 1.5))),
        "old engine / exits off": (">=", *((1.0, 1.5) if narrow else (1.0, 1.15))),
    }


def verdicts(found: Mapping[str, Any], old: Sequence[str]) -> list[dict[str, Any]]:
    """Return each ratio that has a limit, with both."""
    lines: list[tuple[str, str, str, Mapping[str, float]]] = []
    width = found["shape"]["width"]
    others = {name: one for name, one in found["candidates"].items() if name not in (OFF, NONE, ON, *old)}
    if found["isa"]:
        # Not every library can be held to an instruction set. One that computes nothing is fast, and no peer.
        sound = [name for name, one in others.items() if one["drop"] and one["drop"]["mean"] < _SOUND]
        peers = {"fastest OpenVINO": [name for name in sound if name.startswith("OpenVINO")]}
    else:
        peers = {"fastest that passes": [name for name, one in others.items() if one["passes"]]}
    for size, timed in found["times"].items():
        if found["ours"]:
            every = found["ours"][size]["all"]
            lines += [("realisation", size, "", every["realisation"])]
            lines += [("none taken / exits off", size, "", every["none_taken"])]
        for what, who in (peers | {"old engine": old}).items():
            if there := [name for name in who if name in timed]:
                best = min(there, key=lambda name: timed[name]["median_ms"])
                for base, label in ((ON, "exits"), (OFF, "exits off")):
                    if base in timed[best]["ratios"] and f"{what} / {label}" in limits(width):
                        lines += [(f"{what} / {label}", size, best, timed[best]["ratios"][base])]
    judged = []
    for what, size, who, ratio in lines:
        sign, *each = limits(width)[what]
        limit = each[size != "alone"]
        met = ratio["median"] <= limit if sign == "<=" else ratio["median"] >= limit
        judged.append({"ratio": what, "size": size, "who": who, **ratio, "limit": f"{sign} {limit:g}", "met": met})
    return judged


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, all but the first column to the right."""
    lines = (head, ["---", *["---:"] * (len(head) - 1)], *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report(found: Mapping[str, Any]) -> str:
    """Return everything that was measured, in Markdown."""
    languages, times = found["languages"], found["times"]
    rows = []
    for name, one in found["candidates"].items():
        if one["why"]:
            rows.append([f"{name}: {one['why']}", *["-"] * (7 + len(languages))])
            continue
        shown = [name]
        for size in times:
            ratio = times[size][name]["ratios"].get(OFF, {"median": 1})["median"]
            shown += [f"{times[size][name]['median_ms']:.3f}", f"{ratio:.2f}"]
        scores, drop = one["scores"], one["drop"]
        shown += [f"{fmean(scores.values()):.2f}"] if scores else ["-"]
        shown += (
            [f"{drop['mean']:+.2f}, {drop['largest']:+.2f}", "yes" if drop["passes"] else "no"] if drop else ["-"] * 2
        )
        rows.append(shown + [f"{scores[language]:.1f}" if scores else "-" for language in languages])
    head = [
        "candidate",
        "alone, ms",
        "x",
        "in 32, ms",
        "x",
        found["metric"],
        "drop: mean, largest",
        "passes",
        *languages,
    ]
    parts = [found["title"], table(head, rows), "x: times the native engine's, exits off. Drops are from float32."]
    settings = [
        f"- {name}: " + "; ".join(f"{what}: {value}" for what, value in one["settings"].items() if value)
        for name, one in found["candidates"].items()
        if any(one["settings"].values())
    ]
    parts.append("\n".join(settings))
    if own := found["ours"]:
        head = [
            "language",
            "flops_share",
            *(f"{what}, {size}" for what in ("realisation", "none taken") for size in own),
        ]
        rows = [
            [
                name,
                f"{own['alone'][name]['flops_share']:.3f}",
                *(f"{each[name]['realisation']['median']:.3f}" for each in own.values()),
                *(f"{each[name]['none_taken']['median'] - 1:+.1%}" for each in own.values()),
            ]
            for name in (*languages, "all")
        ]
        parts += [table(head, rows), "realisation = time_share / flops_share. None taken: time beside exits off."]
    roof = found["roof"]
    shares = ", ".join(f"{share:.0%} {size}" for size, share in roof["share"].items())
    parts.append(
        f"Roof: a copy moves {roof['bytes_a_second'] / 1e9:.1f} GB/s, an int8 product computes "
        f"{roof['operations_a_second'] / 1e9:.0f} GOPS. Text to answer, exits off, runs at {shares} of it."
    )
    rows = [
        [
            f"{one['ratio']}, {one['size']}{': ' if one['who'] else ''}{one['who']}",
            f"{one['median']:.3f} [{one['lower']:.3f}, {one['upper']:.3f}]",
            one["limit"],
            "pass" if one["met"] else "FAIL",
        ]
        for one in found["verdicts"]
    ]
    parts.append(table(["ratio", "median and quartiles", "limit", ""], rows))
    return "\n\n".join(filter(None, parts))
