"""The node beside the Python program that a user would otherwise write, and beside the physical limit, in one run.

Prints a table of goals, and writes the plots of docs/performance. `make bench-compare` builds what it needs first.
  .venv/bin/python benches/compare/compare.py [--minutes 10] [--only overhead,limit,…]
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

from measure import (EXAMPLES, PYTHON, ROOT, Bench, Watcher, Window, jain, machine, percentile, scrape, total,
                     wait_until)

SSD, NANODET = "ssdlite_mobilenet_v2_coco", "nanodet_g_coco"
FPS = 15
WORK = ["depacketize", "decode", "copy", "preprocess", "inference", "postprocess"]


class Table:
    def __init__(self):
        self.rows = []

    def add(self, goal, limit, measured, ratio="", holds=None):
        self.rows.append((goal, limit, measured, ratio, {True: "yes", False: "NO", None: ""}[holds]))
        print("|", " | ".join(self.rows[-1]), "|", flush=True)

    def text(self):
        head = ("goal", "wanted", "measured", "ratio", "holds")
        rows = [head, tuple("-" * len(name) for name in head), *self.rows]
        return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def clip(folder):
    """The shipped clip at 1280x720, baseline, 10.8 kB a frame: 2.5 Mb/s at 30 frames a second, 1.3 at 15."""
    out = folder / "720p.h264"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "h264", "-r", "30", "-i", ROOT / "media/pedestrians.h264", "-vf",
                    "scale=1280:720", "-c:v", "libx264", "-profile:v", "baseline", "-preset", "fast", "-b:v", "2500k", "-g", "60", "-bf", "0",
                    "-y", out], check=True)
    return out


def receiving(node, cameras, seconds=60):
    """Waits until frames of all cameras are decoded."""
    def all_decode():
        try:
            values = scrape(node.port)
        except OSError:
            return False
        return all(total(values, "frames_decoded_total", camera=camera.name) > 5 for camera in cameras)
    wait_until(all_decode, seconds, "frames of every camera")


def overhead(bench, table, args, facts):
    """CPU outside the session's run for each decoded frame, beside the yardstick, turn by turn."""
    seconds, rounds = args.seconds, 3
    cameras = bench.cameras(2, args.clip, FPS)
    twins = [camera.name for camera in cameras]
    ours, theirs, split, apart = [], [], {work: [] for work in [*WORK, "network"]}, []
    for _ in range(rounds):
        node = bench.node(SSD, twins, threads=1)
        receiving(node, cameras)
        window = Window(bench, node, cameras)
        time.sleep(seconds)
        window.close()
        decoded = window.count("frames_decoded_total")
        spent = {work: window.count("stage_cpu_seconds_total", stage=work) for work in WORK}
        rest = window.spent("node") - sum(spent.values())
        ours.append(1e3 * (window.spent("node") - spent["inference"]) / decoded)
        for work in WORK:
            frames = window.count("frames_inferred_total") if work in ("preprocess", "inference", "postprocess") else decoded
            split[work].append(1e3 * spent[work] / frames)
        split["network"].append(1e3 * rest / decoded)
        apart.append({"node": window.spent("node"), "cameras": window.spent("cameras"), "hub": window.spent("hub"),
                      "seconds": window.seconds, "decoded": decoded, "inferred": window.count("frames_inferred_total")})
        if args.perf:
            facts["perf"] = profile(bench, node, 10)
        node.stop()
        found = bench.yardstick(twins, seconds)
        theirs.append(found["overhead_ms_per_decoded_frame"])
        facts.setdefault("yardstick", []).append(found)
        print(f"# round: node {ours[-1]:.2f} ms, yardstick {theirs[-1]:.2f} ms a decoded frame; {apart[-1]}; {found}", flush=True)
    for camera in cameras:
        camera.stop()
    mine, yours = statistics.median(ours), statistics.median(theirs)
    parts = {name: statistics.median(values) for name, values in split.items()}
    facts["split"], facts["apart"] = parts, apart
    facts["python_decode"] = decode = python_decode(args.clip)
    table.add("1 overhead: CPU outside the session, for each decoded frame", "≤ 0.38 of the yardstick's (try 0.33)",
              f"{mine:.2f} ms and {yours:.2f} ms", f"{mine / yours:.2f}", mine / yours <= 0.38)
    mine, yours = mine - parts["decode"], yours - decode
    table.add("1 the same, decoding taken off both", "≤ 0.20", f"{mine:.2f} ms and {yours:.2f} ms (its decoding: {decode:.2f})",
              f"{mine / yours:.2f}", mine / yours <= 0.20)
    for name, value in parts.items():
        if name != "inference":
            label = "network, SRTP, tee, publish, the rest" if name == "network" else name
            table.add(f"1 split: {label}", "", f"{value:.3f} ms a frame")


def python_decode(clip):
    """CPU for each frame that the yardstick's decoder takes, as its client sets it up."""
    program = """
import sys, time, av
codec = av.CodecContext.create("h264", "r")
data = open(sys.argv[1], "rb").read()
packets = codec.parse(data)
frames, start = 0, time.process_time()
for _ in range(3):
    for packet in packets:
        frames += len(codec.decode(packet))
print(1e3 * (time.process_time() - start) / frames)
"""
    found = subprocess.run([PYTHON, "-c", program, clip], check=True, capture_output=True, text=True)
    return float(found.stdout)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20, help="of a window")
    parser.add_argument("--minutes", type=float, default=10, help="of the overload")
    parser.add_argument("--only", default="", help="scenarios by name, separated by commas")
    parser.add_argument("--perf", action="store_true")
    parser.add_argument("--keep", action="store_true", help="leaves the folder with all logs")
    args = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="twinsight-compare-"))
    args.clip = clip(folder)
    bench, table, facts = Bench(folder), Table(), {}
    scenarios = {"overhead": overhead}
    try:
        for name, scenario in scenarios.items():
            if not args.only or name in args.only.split(","):
                scenario(bench, table, args, facts)
    finally:
        bench.stop()
    print(table.text())


if __name__ == "__main__":
    main()
