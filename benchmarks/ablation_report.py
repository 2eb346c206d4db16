"""The results of `ablation_reset` as a Markdown table and a picture: arms, and paired differences of each factor."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.table import grid

Line = Mapping[str, Any]
Arm = tuple[str, bool, bool]
ARMS: list[Arm] = [(reset, mpr, mpbn) for mpbn in (False, True) for mpr in (False, True) for reset in ("hard", "soft")]
NAMES = {"nmnist": "N-MNIST", "fashion": "Fashion-MNIST", "cifar10": "CIFAR-10 (JPEG)"}


def arm_name(arm: Arm) -> str:
    reset, mpr, mpbn = arm
    return " + ".join([f"{reset} reset", *(["MPR"] if mpr else []), *(["MPBN"] if mpbn else [])])


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error; the error of one value is not known."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return statistics.fmean(values), error


def by_arm(lines: Sequence[Line]) -> dict[Arm, dict[int, float]]:
    """Arm -> {seed: accuracy} of the runs on the test set."""
    found: dict[Arm, dict[int, float]] = {arm: {} for arm in ARMS}
    for line in lines:
        if line["phase"] == "test":
            found[line["reset"], line["mpr"], line["mpbn"]][line["seed"]] = line["accuracy"]
    return found


def paired(found: Mapping[Arm, Mapping[int, float]], arm: Arm, base: Arm) -> list[float]:
    """The difference of two arms for every seed that both have."""
    return [found[arm][seed] - found[base][seed] for seed in sorted(set(found[arm]) & set(found[base]))]


def effects(found: Mapping[Arm, Mapping[int, float]]) -> dict[str, list[float]]:
    """Factor -> its difference for every seed that all arms have, averaged over the four settings of the others."""
    seeds = sorted(set.intersection(*(set(found[arm]) for arm in ARMS)))
    result: dict[str, list[float]] = {}
    for place, (name, on) in enumerate((("soft - hard reset", "soft"), ("MPR - none", True), ("MPBN - none", True))):
        with_it = [arm for arm in ARMS if arm[place] == on]
        without = [arm for arm in ARMS if arm[place] != on]
        result[name] = [
            statistics.fmean(found[arm][seed] for arm in with_it)
            - statistics.fmean(found[arm][seed] for arm in without)
            for seed in seeds
        ]
    return result


def report(lines: Sequence[Line], target: Path) -> str:
    """The tables as text, also written to target.md, and the picture to target.png."""
    cells = sorted({(line["data"], line["steps"]) for line in lines if line["phase"] == "test"})
    if not cells:
        return "no run on a test set is finished yet"
    arms = {cell: by_arm([line for line in lines if (line["data"], line["steps"]) == cell]) for cell in cells}
    titles = [f"{NAMES[data]}, T={steps}" for data, steps in cells]
    text = ["# Hard and soft reset, MPR and MPBN", "", *_conditions(lines), ""]
    text += ["Test accuracy in %, mean ± standard error over seeds:", ""]
    rows = [[arm_name(arm), *(_share(list(arms[cell][arm].values())) for cell in cells)] for arm in ARMS]
    text += grid(["", *titles], rows)
    text += ["Each arm minus hard reset alone, paired, in points, mean ± standard error over seeds:", ""]
    rows = [[arm_name(arm), *(_share(paired(arms[cell], arm, ARMS[0]), "+") for cell in cells)] for arm in ARMS[1:]]
    text += grid(["", *titles], rows)
    text += ["Paired differences in points, averaged over the other factors, mean ± standard error over seeds:", ""]
    differences = {cell: effects(arms[cell]) for cell in cells}
    rows = [[name, *(_share(differences[cell][name], "+") for cell in cells)] for name in differences[cells[0]]]
    text += grid(["", *titles], rows)
    written = "\n".join(text)
    target.with_suffix(".md").write_text(written + "\n")
    _picture(arms, dict(zip(cells, titles, strict=True)), target.with_suffix(".png"))
    return f"{written}\nwritten: {target.with_suffix('.md')}, {target.with_suffix('.png')}"


def _share(values: Sequence[float], sign: str = "") -> str:
    if not values:
        return "–"
    mean, error = mean_and_error([100 * value for value in values])
    return f"{mean:{sign}.2f} ± {error:.2f} ({len(values)})"


def _conditions(lines: Sequence[Line]) -> list[str]:
    """One line for each kind of data: what the figures are of."""
    told = {}
    for line in lines:
        if line["phase"] == "test":
            s = line["settings"]
            lrs = ", ".join(f"{lr:g}" for lr in s["rates"])
            told[line["data"]] = (
                f"- {NAMES[line['data']]}: {s['train']:,} training samples, {line['samples']:,} test samples, "
                f"{s['model']} {s['arguments']}, {s['epochs']} epochs, batch {s['batch']}, augmentation "
                f"{s['augment'] or 'none'}, AdamW, learning rate of each arm chosen among {lrs} on {s['held']:,} of "
                "the training samples; "
                f"beta {s['neuron']['beta']:g}, threshold {s['neuron']['threshold']:g}, soft reset subtracts "
                f"{s['quantum']:g}"
            )
    return [told[data] for data in sorted(told)]


def _picture(arms: Mapping[Any, Mapping[Arm, Mapping[int, float]]], titles: Mapping[Any, str], file: Path) -> None:
    figure = Figure(figsize=(3.4 * len(arms) + 1.6, 3.6), layout="constrained")
    colours = {"hard": "#D55E00", "soft": "#0072B2"}
    for place, (ax, (cell, found)) in enumerate(
        zip(figure.subplots(1, len(arms), squeeze=False)[0], arms.items(), strict=True)
    ):
        for row, arm in enumerate(ARMS):
            values = [100 * value for value in found[arm].values()]
            if not values:
                continue
            mean, error = mean_and_error(values)
            ax.plot(values, [row] * len(values), "|", color=colours[arm[0]], alpha=0.35)
            # One run has no error to draw.
            ax.errorbar(mean, row, xerr=error if error == error else 0, fmt="o", color=colours[arm[0]], capsize=3)
        ax.set_yticks(range(len(ARMS)), [arm_name(arm) for arm in ARMS] if place == 0 else [""] * len(ARMS))
        ax.invert_yaxis()
        ax.set(title=titles[cell], xlabel="test accuracy (%)")
        ax.grid(axis="x", alpha=0.25)
    figure.suptitle("Dots: mean ± standard error over paired seeds; bars: single runs", fontsize=9)
    figure.savefig(file, dpi=120)
