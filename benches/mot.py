#!/usr/bin/env python3
"""How well the node tells who is who: the shipped clip through `twinsight replay`, against our annotation of it.

    .venv/bin/python benches/mot.py [--fps 10 5 3 2] [--frames 795] [--binary target/release/twinsight] [--replay LINES.jsonl]

For each rate it prints MOTA, IDF1, switches of identity, false boxes and misses, by motmetrics at IoU 0.5, over the frames that were looked
at, in two readings: tracks seen in the frame, and those with tracks that are coasting (shown up to 0.3 s beyond their last look).
Needs a release build: cargo build --release --features vp8
"""
import argparse
import csv
import json
import os
import subprocess
from pathlib import Path

import motmetrics
import numpy

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "media/pedestrians.h264"
TRUTH = ROOT / "tests/data/pedestrians_tracks.csv"
METRICS = ["mota", "idf1", "num_switches", "num_false_positives", "num_misses", "num_objects"]


def truth(path=TRUTH):
    """{frame: {id: [x, y, width, height]}}; between the rows of an id, boxes go linearly."""
    rows = {}
    with open(path, newline="") as lines:
        for row in csv.DictReader(lines):
            box = numpy.array([float(row[key]) for key in "xywh"])
            rows.setdefault(int(row["id"]), []).append((int(row["frame"]), box))
    frames = {}
    for person, keys in rows.items():
        keys.sort(key=lambda key: key[0])
        for (first, a), (last, b) in zip(keys, keys[1:] + keys[-1:]):
            for frame in range(first, max(last, first + 1)):
                part = (frame - first) / max(last - first, 1)
                frames.setdefault(frame, {})[person] = a + (b - a) * part
    return frames


def overlap(a, b):
    """IoU of each box of `a` with each of `b`."""
    a, b = (numpy.array(list(boxes), float).reshape(-1, 4) for boxes in (a, b))
    low = numpy.maximum(a[:, None, :2], b[None, :, :2])
    high = numpy.minimum((a[:, :2] + a[:, 2:])[:, None], (b[:, :2] + b[:, 2:])[None])
    common = numpy.clip(high - low, 0, None).prod(axis=2)
    union = a[:, 2:].prod(axis=1)[:, None] + b[:, 2:].prod(axis=1)[None] - common
    return common / numpy.maximum(union, 1e-9)


def replay(binary, fps, frames):
    """The lines of `twinsight replay`, one a frame."""
    command = [binary, "replay", CLIP, "--fps", "10", "--floor", "1", "--json"]
    env = {**os.environ, "TWINSIGHT_DEFAULTS__MAX_FPS": str(fps), "RUST_LOG": "warn"}
    done = subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return lines[:frames] if frames else lines


def evaluate(lines, expected, coasting):
    """motmetrics' figures of the frames that were looked at."""
    told = motmetrics.MOTAccumulator(auto_id=False)
    for line in lines:
        if not line["looked"]:
            continue
        persons = expected.get(line["frame"], {})
        shown = {
            track["id"]: [track["box"][key] for key in ("x", "y", "width", "height")]
            for track in line["tracks"]
            if track["label"] == "person" and (track["seen"] or coasting and track["coasting"])
        }
        distance = 1 - overlap(persons.values(), shown.values())
        distance[distance > 0.5] = numpy.nan
        told.update(list(persons), list(shown), distance, frameid=line["frame"])
    return motmetrics.metrics.create().compute(told, metrics=METRICS, name="clip").loc["clip"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fps", type=float, nargs="+", default=[10, 5, 3, 2])
    parser.add_argument("--frames", type=int, help="only so many of the first frames")
    parser.add_argument("--binary", default=ROOT / "target/release/twinsight")
    parser.add_argument("--replay", type=Path, help="lines that `replay` printed before, in place of running it")
    args = parser.parse_args()
    expected = truth()
    print("| fps | shown | MOTA | IDF1 | switches | false boxes | misses | persons |")
    print("|---|---|---|---|---|---|---|---|")
    for fps in args.fps:
        if args.replay:
            lines = [json.loads(line) for line in args.replay.read_text().splitlines()][: args.frames]
        else:
            lines = replay(args.binary, fps, args.frames)
        for reading, coasting in (("seen", False), ("and coasting", True)):
            of = evaluate(lines, expected, coasting)
            counts = " | ".join(str(int(of[key])) for key in METRICS[2:])
            print(f"| {fps:g} | {reading} | {of['mota']:.3f} | {of['idf1']:.3f} | {counts} |", flush=True)
        if args.replay:
            break


if __name__ == "__main__":
    main()
