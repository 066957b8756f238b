#!/usr/bin/env python3
"""Tests bench/report on made-up figures. Needs matplotlib.

    test_report.py [FOLDER]     leaves the page of the made-up figures in a folder, to look at
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

REPORT = pathlib.Path(__file__).with_name("report")
CONTEXT = {"date": "2026-01-02T03:04:05+00:00", "host_name": "secret", "cpu": "Made-Up 1", "instruction set": "avx2",
           "compiler": "g++ 0", "flags": "-O3"}
MEMORIES = {"wkv7": 300.0, "wkv6": 200.0, "kda": 250.0, "gated_delta_net": 230.0, "gla": 190.0, "linear_attention": 170.0}


def entry(name, ns, **more):
    return {"name": name, "run_name": name, "run_type": "iteration", "real_time": 1e3 * ns, "time_unit": "ns",
            "ns/token/head": ns, "% of peak": 12e3 / ns, **more}


def made_up():
    entries = []
    for memory, ns in MEMORIES.items():
        for tokens in (1, 16, 256, 1024):
            entries.append(entry(f"{memory}/forward/f32/K64/H12/T{tokens}/avx2", ns * (1 + 1 / tokens)))
        entries.append(entry(f"{memory}/forward/f32/K64/H12/T1024/threads2/avx2", ns * 0.55, **{"% of peak": 11e3 / ns}))
        entries.append(entry(f"{memory}/step/f32/K64/H12/avx2", ns + 100))
        entries.append(entry(f"{memory}/step/f32/K64/H12/cold/avx2", ns + 300))
    entries.append(entry("wkv7/chunk16/f32/K64/H12/T256/avx2", 987.0))
    entries.append(entry("wkv7/forward/f32/bf16-inputs/K64/H12/T256/avx2", 432.0))
    entries.append({"name": "wkv4/forward/f32/C768/T256/avx2", "real_time": 1.0, "time_unit": "us", "ns/token/channel": 0.75})
    entries.append(entry("copy/state/f32/K64/H12/avx2", 90.0, bytes_per_second=5e10))
    entries.append({"name": "linear/in64/out64/T1", "real_time": 3.0, "time_unit": "us"})
    return {"context": CONTEXT, "benchmarks": entries}


class Report(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)

    def run_report(self, *reports, page="report.md"):
        """The page of these reports (texts, or what becomes JSON), the pictures, and what was said."""
        paths = []
        for number, report in enumerate(reports):
            paths.append(self.folder / f"{number}.json")
            paths[-1].write_text(report if isinstance(report, str) else json.dumps(report))
        page = self.folder / page
        result = subprocess.run([sys.executable, REPORT, *paths, "--page", page], capture_output=True, text=True)
        pictures = [path.read_bytes() for path in sorted(page.parent.glob("plots/*.svg"))]
        return page.read_text() if result.returncode == 0 else "", pictures, result.stderr

    def refused(self, words, *reports):
        page, _, said = self.run_report(*reports)
        self.assertEqual(page, "")
        self.assertRegex(said, f"^report: .*{words}.*\n$")

    def test_page(self):
        page, pictures, said = self.run_report(made_up())
        self.assertEqual(said, "")
        self.assertEqual(len(pictures), 2)
        for line in ("| CPU | Made-Up 1 |", "| date | 2026-01-02 |", "**f32, head size 64, 12 heads**",
                     "| memory | T = 1 | T = 16 | T = 256 | T = 1024 |",
                     "| `wkv7` | 600 (20%) | 319 (38%) | 301 (40%) | 300 (40%) |", "| `wkv6` | 300 (40%) | 500 (24%) |",
                     "**f32, head size 64, 2 threads**", "| verb | H = 12, T = 1024 |",
                     "| `wkv7/forward` | 165 (37%), 1.82 x |",
                     "| `wkv7/chunk16` | 987 (12%) |", "**f32, bf16-inputs, head size 64, 12 heads**",
                     "| `forward, f32, 768 channels` | 0.75 |", "| `copy/state/f32/K64/H12/avx2` | 90.0 | 50.0 |",
                     "| `linear/in64/out64/T1` | 3 |  |"):
            self.assertIn(line + "\n", page)
        self.assertNotIn("secret", page)

    def test_same_bytes(self):
        self.assertEqual(self.run_report(made_up()), self.run_report(made_up(), page="again.md"))

    def test_medians(self):
        name = "wkv7/forward/f32/K64/H1/T1/avx2"
        runs = [entry(name, ns) for ns in (5.0, 900.0, 400.0)]
        page, _, _ = self.run_report({"context": CONTEXT, "benchmarks": runs})
        self.assertIn("| `wkv7` | 400 ", page)
        aggregate = entry(name, 123.0, run_type="aggregate", aggregate_name="median")
        page, _, _ = self.run_report({"context": CONTEXT, "benchmarks": [*runs, aggregate]})
        self.assertIn("| `wkv7` | 123 ", page)

    def test_interleaved_runs_are_put_in_order(self):
        runs = [entry(f"{memory}/forward/f32/K64/H1/T1/avx2", 100.0, family_index=family, per_family_instance_index=0)
                for memory, family in (("wkv7", 2), ("gla", 1), ("wkv7", 2), ("gla", 1), ("wkv6", 0))]
        page, _, _ = self.run_report({"context": CONTEXT, "benchmarks": runs})
        self.assertLess(page.index("| `wkv6` |"), page.index("| `gla` |"))
        self.assertLess(page.index("| `gla` |"), page.index("| `wkv7` |"))

    def test_several_files(self):
        other = {"context": {**CONTEXT, "date": "2026-01-05T00:00:00+00:00"},
                 "benchmarks": [entry("comba/step/f32/K64/H1/avx2", 77.0)]}
        page, _, _ = self.run_report(made_up(), other)
        self.assertIn("| date | 2026-01-02 to 2026-01-05 |", page)
        self.assertIn("| `comba` | 77.0 (156%) |", page)
        self.refused("compiler is 'g\\+\\+ 1', and 'g\\+\\+ 0'", made_up(),
                     {**other, "context": {**CONTEXT, "compiler": "g++ 1"}})
        self.refused("is in another file too", made_up(), made_up())

    def test_mistakes(self):
        self.refused("no JSON", "{")
        self.refused("not Google Benchmark's JSON", [])
        self.refused("not Google Benchmark's JSON", {"context": CONTEXT})
        self.refused("the context lacks cpu, instruction set", {"context": {}, "benchmarks": []})
        self.refused("no benchmark was run", {"context": CONTEXT, "benchmarks": []})
        self.refused("no list of objects", {"context": CONTEXT, "benchmarks": ["a/b"]})
        self.refused("a benchmark without a name", {"context": CONTEXT, "benchmarks": [{}]})
        self.refused("no real_time", {"context": CONTEXT, "benchmarks": [{"name": "a/b"}]})
        self.refused("no real_time", {"context": CONTEXT, "benchmarks": [{"name": "a/b", "real_time": "1", "time_unit": "ns"}]})
        self.refused("a/b: out of luck",
                     {"context": CONTEXT,
                      "benchmarks": [{"name": "a/b", "error_occurred": True, "error_message": "out of luck"}]})
        result = subprocess.run([sys.executable, REPORT, self.folder / "none.json"], capture_output=True, text=True)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, "none.json: No such file")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        folder = pathlib.Path(sys.argv[1])
        (folder / "made_up.json").write_text(json.dumps(made_up()))
        sys.exit(subprocess.run([sys.executable, REPORT, folder / "made_up.json", "--page", folder / "report.md"]).returncode)
    unittest.main()
