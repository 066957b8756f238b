#!/usr/bin/env python3
"""Draws how far models follow the word problems that they learned: accuracy by the place of a symbol.

    state_tracking --learn --seed 101 --json runs.jsonl
    python3 state_tracking.py runs.jsonl state_tracking.svg          needs matplotlib
"""
import argparse
import json
from statistics import median_high

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "state_tracking", "font.size": 9})
import matplotlib.pyplot as plt  # noqa: E402  (after the choice of a backend without a window)

TITLES = {"parity": "parity", "s3": "$S_3$", "s5-swaps": "$S_5$, swaps", "s5": "$S_5$"}
MODELS = {
    "rwkv7": "RWKV-7",
    "rwkv7-relaxed": "RWKV-7, relaxed",
    "rwkv6": "RWKV-6",
    "delta-net": "DeltaNet",
    "delta-product": "Gated DeltaProduct, 2 steps",
}
MARKERS = "ovsD^"


def read_runs(path):
    with open(path, encoding="utf-8") as file:
        runs = [json.loads(line) for line in file if line.strip()]
    if not runs:
        raise SystemExit("state_tracking.py: no run in the file: was state_tracking --learn --json FILE run?")
    if len({(tuple(run["symbols"]), run["steps"]) for run in runs}) > 1:
        raise SystemExit("state_tracking.py: the runs in the file are not all of one length and number of steps")
    return runs


def draw_task(axes, runs, task):
    of_task = [run for run in runs if run["task"] == task]
    ends = of_task[0]["symbols"]
    axes.axvspan(-0.3, 0.3, color="0.93", lw=0)
    axes.axhline(100 / of_task[0]["elements"], color="0.6", ls="--", lw=0.8)
    for i, (model, name) in enumerate(MODELS.items()):
        rows = [run["accuracy"] for run in of_task if run["model"] == model]
        if not rows:
            continue
        places = [place + 0.06 * (i - 2) for place in range(len(ends))]  # side by side where lines coincide
        groups = list(zip(*rows))
        axes.plot(places, [100 * max(group) for group in groups], ":", color=f"C{i}", lw=1)
        axes.plot(places, [100 * median_high(group) for group in groups], MARKERS[i] + "-", color=f"C{i}", ms=4,
                  lw=1.2, label=name)
    axes.set(title=TITLES.get(task, task), xlabel="place of the symbol", xlim=(-0.35, len(ends) - 0.65), ylim=(0, 105))
    axes.set_xticks(range(len(ends)), [f"{begin + 1}–{end}" for begin, end in zip([0, *ends], ends)], rotation=45,
                    ha="right", rotation_mode="anchor")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", help="lines of JSON")
    parser.add_argument("picture", help="SVG to write")
    paths = parser.parse_args()
    runs = read_runs(paths.runs)
    present = {run["task"] for run in runs}
    tasks = [task for task in TITLES if task in present]
    figure, panels = plt.subplots(1, len(tasks), figsize=(1.2 + 2.5 * len(tasks), 3.9), sharey=True, squeeze=False,
                                  layout="constrained")
    for axes, task in zip(panels[0], tasks):
        draw_task(axes, runs, task)
    panels[0][0].set_ylabel("right products, %")
    lines = {label: line for axes in panels[0] for line, label in zip(*axes.get_legend_handles_labels()[:2])}
    figure.suptitle(" ")  # room for the legend
    figure.legend(lines.values(), lines.keys(), loc="upper center", ncols=len(lines), frameon=False)
    first = runs[0]
    seeds = len({run["seed"] for run in runs})
    figure.supxlabel(f"learned from words of up to {first['length']} symbols (grey) in {first['steps']} steps; solid: median "
                     f"of {seeds} seeds, dotted: the best, dashed: chance", fontsize=7)
    figure.savefig(paths.picture, metadata={"Date": None})


if __name__ == "__main__":
    main()
