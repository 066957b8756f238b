#!/usr/bin/env python3
"""Draws how the loss of train falls: bits per byte of each step, and of text that is held out.

    train ... --metrics run.jsonl
    python3 training.py run.jsonl training.svg                           needs matplotlib
    python3 training.py a.jsonl b.jsonl training.svg --against seconds   several runs, by the time that they take
"""
import argparse
import itertools
import json
import pathlib

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "training", "font.size": 9})
import matplotlib.pyplot as plt  # noqa: E402  (after the choice of a backend without a window)

LABELS = {"step": "step", "seconds": "seconds of training"}


def read_run(path):
    """The lines of a file of metrics; a last one that is cut short does not count."""
    rows = []
    for line in pathlib.Path(path).read_text(encoding="utf-8").split("\n")[:-1]:
        rows.append(json.loads(line))
    if not rows:
        raise SystemExit(f"training.py: {path}: expected lines of train --metrics, found none")
    return rows


def places(rows, against):
    """Where each step lies on the axis: its number, or the seconds until its end."""
    return [row["step"] for row in rows] if against == "step" else list(
        itertools.accumulate(row["seconds"] for row in rows))


def smooth(numbers, share=0.02):
    """Means of the last so many steps."""
    width = max(1, round(share * len(numbers)))
    sums = [0, *itertools.accumulate(numbers)]
    return [(sums[i + 1] - sums[max(0, i + 1 - width)]) / min(width, i + 1) for i in range(len(numbers))]


def draw(axes, name, rows, against, color):
    x, losses = places(rows, against), [row["bits_per_byte"] for row in rows]
    axes.plot(x, losses, color=color, alpha=0.25, linewidth=0.8)
    axes.plot(x, smooth(losses), color=color, label=name)
    held_out = [(place, row["held_out_bits_per_byte"]) for place, row in zip(x, rows)
                if "held_out_bits_per_byte" in row]
    if held_out:
        axes.plot(*zip(*held_out), "o--", color=color, markersize=3, linewidth=0.8, label=f"{name}, held out")
        axes.annotate(f"{held_out[-1][1]:.3f}", held_out[-1], xytext=(4, 4), textcoords="offset points")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", nargs="+", help="files of train --metrics")
    parser.add_argument("picture", help="SVG to write")
    parser.add_argument("--against", choices=LABELS, default="step", help="what lies on the horizontal axis")
    arguments = parser.parse_args()
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for i, path in enumerate(arguments.metrics):
        draw(axes, pathlib.Path(path).stem, read_run(path), arguments.against, f"C{i % 10}")
    axes.set(xlabel=LABELS[arguments.against], ylabel="bits per byte")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right")
    figure.savefig(arguments.picture, metadata={"Date": None})


if __name__ == "__main__":
    main()
