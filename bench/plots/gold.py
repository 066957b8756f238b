#!/usr/bin/env python3
"""Draws what a token costs GoldFinch with 1k to 256k tokens in the cache: its time, and the bytes that are kept.

    bench_gold --benchmark_filter=decode --benchmark_format=json > decode.json
    python3 gold.py decode.json gold.svg          needs matplotlib
"""
import argparse
import json

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "gold", "font.size": 9})
import matplotlib.pyplot as plt  # noqa: E402  (after the choice of a backend without a window)

SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
PREFIXES = ((30, "Gi"), (20, "Mi"), (10, "Ki"), (0, ""))


def decode_runs(report):
    """The model, then tokens, seconds, bytes of the cache and of a transformer by length; of repeated runs medians."""
    runs = [run for run in report["benchmarks"] if "/decode/" in run["name"]]
    medians = [run for run in runs if run.get("aggregate_name") == "median"]
    rows = sorted(
        (run["tokens"], run["real_time"] * SECONDS[run["time_unit"]], run["cache bytes"], run["transformer bytes"])
        for run in medians or runs
    )
    if not rows:
        raise SystemExit("gold.py: no run of decode in the report: was bench_gold --benchmark_filter=decode run?")
    return runs[0]["label"], *zip(*rows)


def binary(number, unit=""):
    """4096 as '4 Ki': powers of two are round numbers here."""
    power, prefix = next(p for p in PREFIXES if number >= 2 ** p[0] or p[0] == 0)
    return f"{number / 2 ** power:.0f} {prefix}{unit}".rstrip()


def seconds(number):
    return f"{number:.3g} s" if number >= 1 else f"{1e3 * number:.3g} ms"


def prepare(axes, title, tokens):
    axes.set(xscale="log", yscale="log", title=title, xlabel="tokens in the cache")
    axes.set_xticks(tokens, [binary(n) for n in tokens])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def draw_time(axes, tokens, times):
    prepare(axes, "time of a decoded token", tokens)
    straight = [times[-1] * n / tokens[-1] for n in tokens]
    axes.plot(tokens, straight, "--", color="0.6", label="proportional to the length")
    axes.plot(tokens, times, "o-", color="C0", label="GoldFinch, keys and values rebuilt")
    for n, time in zip(tokens, times):
        axes.annotate(seconds(time), (n, time), xytext=(6, -10), textcoords="offset points")
    axes.set_ylim(bottom=times[0] / 3, top=4 * times[-1])
    axes.yaxis.set_major_formatter(lambda value, _: seconds(value))
    axes.legend(frameon=False, loc="upper left")


def draw_bytes(axes, tokens, cache, transformer):
    prepare(axes, "bytes kept", tokens)
    axes.set_yscale("log", base=2)
    axes.plot(tokens, transformer, "s-", color="C3", label="transformer of the same shape, 16 bits")
    axes.plot(tokens, cache, "o-", color="C0", label="GoldFinch, token cache of bf16")
    axes.yaxis.set_major_formatter(lambda value, _: binary(value, "B"))
    axes.set_ylim(top=8 * max(transformer))
    axes.annotate(f"{transformer[-1] / cache[-1]:.0f} times", (tokens[-1], (cache[-1] * transformer[-1]) ** 0.5),
                  ha="right", va="center")
    axes.legend(frameon=False, loc="upper left")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", help="Google Benchmark's JSON")
    parser.add_argument("picture", help="SVG to write")
    paths = parser.parse_args()
    with open(paths.report, encoding="utf-8") as file:
        report = json.load(file)
    model, tokens, times, cache, transformer = decode_runs(report)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.9), layout="constrained")
    draw_time(left, tokens, times)
    draw_bytes(right, tokens, cache, transformer)
    context = report["context"]
    machine = f"{context['cpu']}, {context['instruction set']}, one thread, {context['compiler']}"
    figure.supxlabel(f"{model}; {machine}", fontsize=7)
    figure.savefig(paths.picture, metadata={"Date": None})


if __name__ == "__main__":
    main()
