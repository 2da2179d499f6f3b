#!/usr/bin/env python3
"""How well the node counts who crosses a line: the shipped clip through `twinsight replay`, against our annotation of it.

    .venv/bin/python benches/crossings.py [--fps 10 5 2] [--binary target/release/twinsight] [--replay LINES.jsonl]

For each rate it prints how many crossings there were, how many were found within 1.5 s, and how many were told that were none. What the
annotated feet did is judged by the rule of docs/guide/zones.md, so this measures what detector, tracks and rates cost.
Needs a release build: cargo build --release --features vp8
"""
import argparse
import csv
import json
import os
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "media/pedestrians.h264"
TRUTH = ROOT / "tests/data/pedestrians_tracks.csv"
WIDTH, HEIGHT, FPS = 768, 576, 10
LATE = 1.5
# Over a footpath, and over a road and the meadow beside it.
LINES = {"walkway": ((0.47, 0.62), (0.47, 0.32)), "path": ((0.60, 0.30), (0.60, 0.95))}


def cross(a, b, c):
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def truth():
    """Each real crossing as (seconds, line, direction)."""
    persons = {}
    with open(TRUTH, newline="") as lines:
        for row in csv.DictReader(lines):
            persons.setdefault(row["id"], []).append({key: float(row[key]) for key in ("frame", "x", "y", "w", "h")})
    found = []
    for name, (a, b) in LINES.items():
        for boxes in persons.values():
            side, net, before = None, 0, None
            for box in sorted(boxes, key=lambda box: box["frame"]):
                foot = ((box["x"] + box["w"] / 2) / WIDTH, (box["y"] + box["h"]) / HEIGHT)
                distance = cross(a, b, foot)
                if before and (cross(a, b, before) >= 0) != (distance >= 0):
                    if (cross(before, foot, a) >= 0) != (cross(before, foot, b) >= 0):
                        net += 1 if distance >= 0 else -1
                before = foot
                if abs(distance) > abs(b[0] - a[0]) * box["h"] / HEIGHT / 8 + abs(b[1] - a[1]) * box["w"] / WIDTH / 4:
                    if side not in (None, distance > 0) and net:
                        found.append((box["frame"] / FPS, name, "in" if distance > 0 else "out"))
                    side, net = distance > 0, 0
    return found


def config():
    lines = "".join(
        f"[[cameras.lines]]\nname = \"{name}\"\nfrom = {list(a)}\nto = {list(b)}\nlabels = [\"person\"]\n" for name, (a, b) in LINES.items()
    )
    return f"[hub]\nurl = \"http://127.0.0.1:4300\"\ntwin_id = \"node\"\n[[cameras]]\ntwin_id = \"square\"\n{lines}"


def replay(binary, fps):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "node.toml"
        file.write_text(config())
        command = [binary, "replay", CLIP, "--config", file, "--fps", str(FPS), "--floor", "1", "--json"]
        env = {**os.environ, "TWINSIGHT_DEFAULTS__MAX_FPS": str(fps), "RUST_LOG": "warn"}
        done = subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()


def told(lines):
    frames = [json.loads(line) for line in lines]
    return [
        (frame["timeMs"] / 1000, event["line"], event["direction"])
        for frame in frames for event in frame["events"] if event.get("line") in LINES
    ]


def compare(fps, lines):
    missed, none = truth(), 0
    real = len(missed)
    for crossing in told(lines):
        near = [one for one in missed if one[1:] == crossing[1:] and abs(one[0] - crossing[0]) <= LATE]
        if near:
            missed.remove(min(near, key=lambda one: abs(one[0] - crossing[0])))
        else:
            none += 1
    print(f"{fps:>4} fps: {real - len(missed)} of {real} crossings found, {none} told that were none")


arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("--fps", type=float, nargs="+", default=[10, 5, 2])
arguments.add_argument("--binary", default=ROOT / "target/release/twinsight")
arguments.add_argument("--replay", help="lines that `twinsight replay` has written with these lines, in place of a run")
given = arguments.parse_args()
if given.replay:
    compare(given.fps[0], Path(given.replay).read_text().splitlines())
else:
    for fps in given.fps:
        compare(fps, replay(given.binary, fps))
