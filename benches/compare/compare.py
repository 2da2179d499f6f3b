"""The node beside the Python program that a user would otherwise write, and beside the physical limit, in one run.

Overhead and sweep measure the default model, which is in 8 bits, and its f32 twin, each beside the Python program with the same
model; all else the default. Prints a table of goals, and writes the plots of docs/images. `make bench-compare` builds what it needs first.
  .venv/bin/python benches/compare/compare.py [--minutes 10] [--only overhead,limit,…]
With --minutes 4 --seconds 16 all but `loops`, which builds benches, takes some 20 minutes.
"""
import argparse
import collections
import json
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time
import urllib.request

import plot
from measure import EXAMPLES, FPS, ROOT, TWINSIGHT, Bench, Watcher, Window, jain, percentile, receiving, total, wait_until
from sweep import sweep

# A bench of the scheduler by its number of cameras.
SCHEDULE = "pick_and_offer, no limit/{} cameras"
MODELS = {"INT8": "nanodet_g_coco_int8", "f32": "nanodet_g_coco"}
# So many cameras a session of one thread keeps up with, so that all of their frames are inferred.
KEPT_UP_WITH = {"INT8": 2, "f32": 1}
# CPU of a decoded frame outside the session, with its share of the camera and the hub, which run here too.
FRAME_MS = 3.2
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


def overhead(bench, table, args, facts):
    """CPU outside the session's run for each decoded frame, beside the yardstick, turn by turn."""
    facts["overhead"] = {kind: overhead_of(bench, args, kind) for kind in args.kinds}
    alone = paced_decode(bench, args)
    for kind, found in facts["overhead"].items():
        mine, yours, parts, decode = found["node_ms"], found["yardstick_ms"], found["split"], found["yardstick_decode_ms"]
        table.add(f"1 overhead: CPU outside the session, for each decoded frame ({kind}; cameras: {KEPT_UP_WITH[kind]})",
                  "≤ 0.38 of the yardstick's (try 0.33)", f"{mine:.2f} ms and {yours:.2f} ms", f"{mine / yours:.2f}", mine / yours <= 0.38)
        mine, yours = mine - parts["decode"], yours - decode
        table.add(f"1 the same, decoding taken off both ({kind})", "≤ 0.20", f"{mine:.2f} ms and {yours:.2f} ms (its decoding: {decode:.2f})",
                  f"{mine / yours:.2f}", mine / yours <= 0.20)
        table.add(f"1 CPU of an inference in the session ({kind})", "", f"{parts['inference']:.1f} ms and {found['yardstick_session_ms']:.1f} ms",
                  f"{parts['inference'] / found['yardstick_session_ms']:.2f}")
        for name, value in parts.items():
            if name != "inference":
                label = "network, SRTP, tap, publish, the rest" if name == "network" else name
                table.add(f"1 split: {label} ({kind})", "", f"{value:.3f} ms a frame")
    table.add("1 the limit: decoding alone, in a loop and at the cameras' pace", "", f"{alone['tight_ms']:.2f} and {alone['paced_ms']:.2f} ms")


def overhead_of(bench, args, kind):
    model, cameras = MODELS[kind], bench.cameras(KEPT_UP_WITH[kind], args.clip, FPS, f"cam-{kind}")
    twins = [camera.name for camera in cameras]
    ours, theirs, split, apart = [], [], {work: [] for work in [*WORK, "network"]}, []
    for _ in range(args.rounds):
        node = bench.node(model, twins, threads=1)
        receiving(node, cameras)
        window = Window(bench, node, cameras)
        time.sleep(args.seconds)
        window.close()
        decoded, inferred = (window.count(f"frames_{what}_total") for what in ("decoded", "inferred"))
        spent = {work: window.count("stage_cpu_seconds_total", stage=work) for work in WORK}
        rest = window.spent("node") - sum(spent.values())
        ours.append(1e3 * (window.spent("node") - spent["inference"]) / decoded)
        for work in WORK:
            split[work].append(1e3 * spent[work] / (inferred if work in ("preprocess", "inference", "postprocess") else decoded))
        split["network"].append(1e3 * rest / decoded)
        apart.append({"node": window.spent("node"), "cameras": window.spent("cameras"), "hub": window.spent("hub"),
                      "seconds": window.seconds, "decoded": decoded, "inferred": inferred})
        if args.perf:
            print(f"# perf: {profile(node)}", flush=True)
        node.stop()
        theirs.append(bench.yardstick(model, twins, args.seconds))
        print(f"# {kind}: node {ours[-1]:.2f} ms, yardstick {theirs[-1]['overhead_ms_per_decoded_frame']:.2f} ms a decoded frame; {apart[-1]}; "
              f"{theirs[-1]}", flush=True)
    for camera in cameras:
        camera.stop()
    return {"node_ms": statistics.median(ours), "split": {name: statistics.median(values) for name, values in split.items()}, "apart": apart,
            "yardstick_ms": statistics.median(found["overhead_ms_per_decoded_frame"] for found in theirs),
            "yardstick_decode_ms": statistics.median(found["decode_ms"] for found in theirs),
            "yardstick_session_ms": statistics.median(1e3 * found["infer_s"] / found["inferred"] for found in theirs), "yardstick": theirs}


def stop(table, when, node, watcher, cameras):
    """Ends a scenario, and tells how long the node took."""
    took = node.stop()
    table.add(f"SIGTERM {when}", "≤ 5 s", f"{took:.1f} s", "", took <= 5)
    watcher.stop()
    for camera in cameras:
        camera.stop()


def limit(bench, table, args, facts):
    """Cameras that offer four times what inference can take; a slow and a broken one among them. How fast, how fresh, how fair."""
    model = args.model
    bare = [bench.bare(model, 2, 1, 6), bench.bare(model, 1, 2, 6)]
    alone = bench.bare(model, 1, 1, 6)
    facts["bare"] = {"2 sessions of 1 thread": bare[0], "1 session of 2 threads": bare[1], "1 session of 1 thread": alone}
    print(f"# bare loops: {facts['bare']}", flush=True)
    # The number of inferences, and four times as many frames, that fill the cores.
    inferences = 1e3 * os.cpu_count() / (bare[0]["cpu_ms"] + 4 * FRAME_MS)
    count = max(2, round(4 * inferences / FPS))
    cameras = bench.cameras(count, args.clip, FPS)
    slow = bench.cameras(1, args.clip, 1, "slow")
    broken = bench.cameras(1, broken_clip(args.clip, bench.folder), FPS, "broken")
    everybody = cameras + slow + broken
    node = bench.node(model, [camera.name for camera in everybody])
    watcher = Watcher(bench, node.name)
    receiving(node, cameras + slow)
    time.sleep(5)
    window, from_event = Window(bench, node, everybody), len(watcher.events)
    time.sleep(args.minutes * 60)
    window.close()
    events = watcher.events[from_event:]
    names = [camera.name for camera in cameras]
    inferred = window.count("frames_inferred_total")
    offered = window.count("frames_decoded_total") / window.seconds
    spent = {work: window.count("stage_cpu_seconds_total", stage=work) for work in WORK}
    network = window.thread("tokio")
    process = window.spent("node")
    outside = process - spent["decode"] - spent["inference"] - network
    facts["limit"] = {"cameras": count, "offered": offered, "inferred": inferred / window.seconds, "spent": spent, "network": network,
                      "process": process, "cameras_cpu": window.spent("cameras"), "hub_cpu": window.spent("hub"),
                      "seconds": window.seconds, "resident_mb": node.resident_mb()}
    print(f"# limit: {facts['limit']}", flush=True)
    in_session = 1e3 * spent["inference"] / inferred
    table.add(f"2 offered beside inferred ({count} cameras, {model})", "4", f"{offered:.0f} and {inferred / window.seconds:.1f} a second",
              f"{offered * window.seconds / inferred:.1f}")
    table.add("2 CPU in the session for each inference, beside a bare loop's", "≤ 1.05",
              f"{in_session:.2f} ms and {bare[0]['cpu_ms']:.2f} ms", f"{in_session / bare[0]['cpu_ms']:.2f}",
              in_session / bare[0]["cpu_ms"] <= 1.05)
    table.add("2 CPU outside decode, network and session", "≤ 5 % of the process's", f"{outside:.1f} of {process:.0f} s",
              f"{100 * outside / process:.1f} %", outside / process <= 0.05)
    table.add("2 machine idle", "≤ 3 %", f"{100 * window.idle():.1f} %", "", window.idle() <= 0.03)
    parts = {part: [round(percentile([event[2][part] for event in events if event[1] in names], share), 1) for share in (50, 99)]
             for part in events[0][2]}
    print(f"# limit, p50 and p99: {parts}", flush=True)
    bound = 1e3 / FPS + 2 * alone["p50_ms"] + 10
    ages = {name: [latency["total"] for _, camera, latency, _ in events if camera == name] for name in names}
    worst = max(percentile(values, 99) for values in ages.values())
    middle = statistics.median(percentile(values, 99) for values in ages.values())
    table.add("3 fresh: p99 of the age, the worst camera (the median one)", f"≤ {bound:.0f} ms", f"{worst:.0f} ms ({middle:.0f})",
              f"{worst / bound:.2f}", worst <= bound)
    third = args.minutes * 20
    begun = events[0][0]
    first = percentile([event[2]["total"] for event in events if event[0] < begun + third and event[1] in ages], 99)
    last = percentile([event[2]["total"] for event in events if event[0] > events[-1][0] - third and event[1] in ages], 99)
    table.add(f"3 p99 in the last third of {args.minutes:g} minutes, beside the first", "≤ 1.2", f"{last:.0f} and {first:.0f} ms",
              f"{last / first:.2f}", last / first <= 1.2)
    index = jain([window.count("frames_inferred_total", camera=name) for name in names])
    table.add("4 fair: Jain's index of inferences", "≥ 0.99", f"{index:.4f}", "", index >= 0.99)
    frames, got = (window.count(f"frames_{what}_total", camera=slow[0].name) for what in ("decoded", "inferred"))
    table.add("4 a camera of 1 fps gets its frames inferred", "all", f"{got:.0f} of {frames:.0f}", "", got >= frames - 1)
    units = window.count("access_units_received_total", camera=broken[0].name)
    table.add("4 the broken one: its units and frames", "", f"{units:.0f} and {window.count('frames_decoded_total', camera=broken[0].name):.0f}")
    stop(table, "in overload", node, watcher, everybody)


def broken_clip(clip, folder):
    """The clip with slices that no decoder takes: a byte in each hundred is another."""
    data = bytearray(clip.read_bytes())
    at = 0
    while (at := data.find(b"\0\0\1", at)) >= 0:
        at += 3
        if data[at] & 31 in (1, 5):
            end = data.find(b"\0\0\1", at)
            for n in range(at + 20, end if end > 0 else len(data), 100):
                data[n] ^= 0x55
    out = folder / "broken.h264"
    out.write_bytes(data)
    return out


def shedding(bench, table, args, facts):
    """Twice as many 1080p cameras of High profile as the machine can decode: how fresh, how steady, and who is left out."""
    clip = bench.folder / "1080p.h264"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "h264", "-r", "30", "-i", ROOT / "media/pedestrians.h264", "-vf", "scale=1920:1080", "-c:v",
                    "libx264", "-profile:v", "high", "-preset", "fast", "-b:v", "6M", "-g", "60", "-bf", "0", "-y", clip], check=True)
    each = json.loads(subprocess.run([EXAMPLES / "bare_decode", clip, "--fps", str(2 * FPS), "--seconds", "8"], check=True,
                                     capture_output=True, text=True, cwd=ROOT).stdout)["tight_ms"] * FPS / 1e3
    count = round(2 * os.cpu_count() / each)
    cameras = bench.cameras(count, clip, FPS)
    names = [camera.name for camera in cameras]
    node = bench.node(args.model, names)
    watcher = Watcher(bench, node.name)
    receiving(node, cameras, 120)
    # The first minute is for finding the levels.
    time.sleep(60)
    changed_before = level_changes(node)
    window, from_event = Window(bench, node, cameras), len(watcher.events)
    time.sleep(args.minutes * 30)
    window.close()
    changes = level_changes(node) - changed_before
    events = watcher.events[from_event:]
    came = {name: [window.before["wall"], *(at for at, camera, _, _ in events if camera == name), window.after["wall"]] for name in names}
    gap = max(later - earlier for times in came.values() for earlier, later in zip(times, times[1:]))
    ages = [latency["total"] for _, _, latency, _ in events]
    cameras_now = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{node.port}/api/cameras", timeout=5).read())
    levels = collections.Counter(camera["shedLevel"] for camera in cameras_now)
    spent = {work: window.count("stage_cpu_seconds_total", stage=work) for work in WORK}
    facts["shedding"] = {"cameras": count, "each": each, "levels": levels, "changes": changes, "gap": gap, "seconds": window.seconds, "spent": spent,
                         "dropped": {reason: window.count("access_units_dropped_total", reason=reason) for reason in ("shed", "decode_backlog", "awaiting_keyframe")},
                         "idle": window.idle(), "ages": [percentile(ages, share) for share in (50, 99, 100)]}
    print(f"# shedding: {facts['shedding']}", flush=True)
    table.add(f"7 shedding: {count} cameras of 1080p15 High, of which {os.cpu_count() / each:.0f} would fill the cores; at levels 0 to 3", "",
              ", ".join(str(levels[level]) for level in range(4)))
    table.add("7 age of the results, p50 and p99", "", f"{percentile(ages, 50):.0f} and {percentile(ages, 99):.0f} ms")
    decoded, inferred = (window.count(f"frames_{what}_total") / window.seconds for what in ("decoded", "inferred"))
    table.add("7 decoded and inferred", "", f"{decoded:.0f} and {inferred:.0f} a second")
    table.add("7 the longest time without a result of a camera", "", f"{gap:.1f} s")
    table.add("7 changes of level, for each camera and minute", "", f"about {changes / count / (window.seconds / 60):.2f}")
    stop(table, "while shedding", node, watcher, cameras)


def level_changes(node):
    """Steps of all ladders so far: lines of the log, each with the number of those that it stands for."""
    left_out = re.findall(r"late_ms=\d+ left_out=(\d+)", re.sub(r"\x1b\[\d*m", "", node.log.read_text()))
    return sum(1 + int(more) for more in left_out)


def quarter(bench, table, args, facts):
    """At a quarter of what the machine can infer, the age is what the work takes."""
    capacity = facts["limit"]["inferred"] if "limit" in facts else 1e3 * os.cpu_count() / (bench.bare(args.model)["cpu_ms"] + 4 * FRAME_MS)
    fps = round(capacity / 4 / 2, 1)
    cameras = bench.cameras(2, args.clip, fps)
    node = bench.node(args.model, [camera.name for camera in cameras])
    watcher = Watcher(bench, node.name)
    receiving(node, cameras)
    watcher.events.clear()
    time.sleep(2 * args.seconds)
    latencies = [latency for _, _, latency, _ in watcher.events]
    age = percentile([latency["total"] for latency in latencies], 50)
    parts = {part: percentile([latency[part] for latency in latencies], 50) for part in latencies[0]}
    work = percentile([sum(latency[part] for part in ("receive", "decode", "preprocess", "inference")) for latency in latencies], 50)
    table.add(f"3 at a quarter of capacity (2 cameras of {fps} fps): p50 of the age, beside its work", "≤ 1.25", f"{age:.1f} and {work:.1f} ms",
              f"{age / work:.2f}", age / work <= 1.25)
    print(f"# quarter: {parts}", flush=True)
    node.stop()
    watcher.stop()
    for camera in cameras:
        camera.stop()


def memory(bench, table, args, facts):
    """Resident memory with one camera and with five, beyond the session's own."""
    own = bench.bare(args.model, 1, 1, 3)["session_mb"]
    cameras = bench.cameras(5, args.clip, FPS)
    resident = {}
    for count in (1, 5):
        node = bench.node(args.model, [camera.name for camera in cameras[:count]], threads=1)
        receiving(node, cameras[:count])
        time.sleep(args.seconds)
        resident[count] = node.resident_mb()
        node.stop()
    for camera in cameras:
        camera.stop()
    one, more = resident[1] - own, (resident[5] - resident[1]) / 4
    table.add("5 resident with one camera, beyond the session's own", "≤ 130 MB", f"{one:.0f} MB (in all {resident[1]:.0f}, the session's {own:.0f})",
              "", one <= 130)
    table.add("5 resident for each further camera", "≤ 28 MB", f"{more:.1f} MB", "", more <= 28)


def start(bench, table, args, facts):
    """From the start of the program to ready, and from the first keyframe to the first event."""
    cameras = bench.cameras(1, args.clip, FPS)
    ready, first = [], []
    for _ in range(5):
        load = bench.bare(args.model, 2, 1, 0.5)["load_ms"] / 2
        started = time.monotonic()
        node = bench.node(args.model, [camera.name for camera in cameras])
        watcher = Watcher(bench, node.name)

        def is_ready():
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{node.port}/readyz", timeout=1).status == 200
            except OSError:
                return False
        wait_until(is_ready, 20, "the node is ready")
        ready.append(1e3 * (time.monotonic() - started) - load)
        wait_until(lambda: watcher.events, 20, "an event")
        at, _, _, event = watcher.events[0]
        first.append(event["timestamp"] - event["frame"]["receivedAt"])
        node.stop()
        watcher.stop()
    cameras[0].stop()
    table.add("8 ready, after the model's own load time (p50 of 5, the worst)", "≤ 1 s",
              f"{statistics.median(ready):.0f} ms ({max(ready):.0f})", "", max(ready) <= 1000)
    table.add("8 first event after its frame's first packet (p50 of 5, the worst)", "≤ 1 s",
              f"{statistics.median(first):.0f} ms ({max(first):.0f})", "", max(first) <= 1000)


def profile(node):
    """Shares of what the network's threads do, by the names of functions; none without `perf`."""
    data = node.log.with_suffix(".perf")
    tasks = [task.name for task in pathlib.Path(f"/proc/{node.pid}/task").iterdir() if (task / "comm").read_text().startswith("tokio")]
    try:
        subprocess.run(["perf", "record", "-e", "cpu-clock", "-F", "1999", "-g", "-o", data, "-t", ",".join(tasks), "--", "sleep", "10"],
                       check=True, capture_output=True)
        text = subprocess.run(["perf", "script", "-i", data, "-F", "ip,sym"], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    stacks = [stack for stack in text.split("\n\n") if stack.strip()]
    kinds = {"tap": "realtime::rtp_tap", "SRTP": "srtp", "hub and events": ("twinsight::hub", "twinsight::publish", "serde_json", "tungstenite",
                                                                      "tcp_")}
    found = collections.Counter()
    for stack in stacks:
        for kind, names in kinds.items():
            if any(name in stack for name in ([names] if isinstance(names, str) else names)):
                found[kind] += 1
                break
    return {kind: count / len(stacks) for kind, count in found.items()}


def paced_decode(bench, args):
    """CPU for each frame of our decoder and the yardstick's with nothing around them, at the cameras' pace: the limit."""
    return json.loads(subprocess.run([EXAMPLES / "bare_decode", args.clip, "--fps", str(2 * FPS), "--seconds", "8"], check=True,
                                     capture_output=True, text=True, cwd=ROOT).stdout)


def capacity(bench, table, args, facts):
    """What `twinsight capacity` says, beside what the sweep saw."""
    csv, started = bench.folder / "capacity.csv", time.monotonic()
    command = [TWINSIGHT, "capacity", "--model", args.model, "--clip", args.clip, "--fps", str(FPS), "--csv", csv]
    env = {**os.environ, "TWINSIGHT_DEFAULTS__MAX_FPS": "0"}
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, env=env).stdout
    took = time.monotonic() - started
    print("".join(f"# {line}\n" for line in said.splitlines()), end="", flush=True)
    found = re.search(r"carries (?:at least )?(\d+)", said)
    carried = int(found[1]) if found else 0
    table.add("`twinsight capacity` takes", "< 90 s", f"{took:.0f} s", "", took < 90)
    seen = next((count for kind, count in facts.get("carried", {}).items() if MODELS[kind] == args.model), None)
    if seen:
        table.add("`twinsight capacity` says, and the sweep saw, cameras of 15 fps", "within 25 %", f"{carried} and {seen}",
                  f"{carried / seen:.2f}", abs(carried - seen) <= max(1, 0.25 * seen))


def loops(bench, table, args, facts):
    """What benches say: preprocessing, the scheduler, allocations."""
    for name in ("detect", "schedule"):
        wanted = {"detect": "preprocess", "schedule": ""}[name]
        subprocess.run(["cargo", "bench", "--quiet", "--locked", "--features", "vp8", "--bench", name, "--", wanted], cwd=ROOT,
                       check=True, capture_output=True)
    estimates = {}
    for file in (ROOT / "target/criterion").glob("*/*/new/estimates.json"):
        group = json.loads((file.parent / "benchmark.json").read_text())
        estimates[group["title"]] = json.loads(file.read_text())["median"]["point_estimate"] / 1e6
    for case in ("720p to 300 stretch", "720p to 416 letterbox", "720p to 640 letterbox", "1080p to 300 stretch", "1080p to 416 letterbox",
                 "1080p to 640 letterbox"):
        ms = estimates[f"preprocess/{case}"]
        table.add(f"6 preprocess {case}", "≤ 0.5 ms", f"{ms:.2f} ms", "", ms <= 0.5)
    few, many = (estimates[SCHEDULE.format(count)] for count in ("10", "1000"))
    table.add("4 a pick among 1,000 cameras, beside one among 10", "≤ 2", f"{1e6 * many:.0f} and {1e6 * few:.0f} ns", f"{many / few:.2f}",
              many / few <= 2)
    said = subprocess.run(["cargo", "bench", "--quiet", "--locked", "--features", "vp8", "--bench", "allocations"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    print("".join(f"# {line}\n" for line in said.splitlines()), end="", flush=True)


def draw(facts, about, folder):
    folder.mkdir(exist_ok=True)
    if "sweep" in facts:
        (folder / "age.svg").write_text(plot.ages(facts["sweep"], about))
    if "overhead" in facts:
        (folder / "cpu.svg").write_text(plot.shares(facts["overhead"], about))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20, help="of a window")
    parser.add_argument("--minutes", type=float, default=10, help="of the overload")
    parser.add_argument("--rounds", type=int, default=2, help="of the overhead, for each model")
    parser.add_argument("--kinds", default=",".join(MODELS), help="of the overhead and the sweep")
    parser.add_argument("--model", default=MODELS["INT8"], help="of all else")
    parser.add_argument("--only", default="", help="scenarios by name, separated by commas")
    parser.add_argument("--perf", action="store_true", help="splits the network's share with perf")
    parser.add_argument("--images", type=pathlib.Path, default=ROOT / "docs/images", help="the folder of the plots")
    parser.add_argument("--out", type=pathlib.Path, help="writes all figures here, as JSON")
    args = parser.parse_args()
    args.kinds = {kind: MODELS[kind] for kind in args.kinds.split(",")}
    scenarios = {each.__name__: each for each in (overhead, limit, shedding, quarter, memory, start, sweep, capacity, loops)}
    wanted = args.only.split(",") if args.only else list(scenarios)
    with tempfile.TemporaryDirectory(prefix="twinsight-compare-") as folder:
        folder = pathlib.Path(folder)
        args.clip = clip(folder)
        bench, table, facts = Bench(folder), Table(), {}
        try:
            for name in wanted:
                print(f"# {name}: {scenarios[name].__doc__}", flush=True)
                scenarios[name](bench, table, args, facts)
            balanced = [node.balances() for node in bench.nodes]
            if balanced:
                table.add("the ledger of every node of this run balances", "all", f"{sum(balanced)} of {len(balanced)}", "", all(balanced))
        finally:
            bench.stop()
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    about = f"{os.cpu_count()} cores of {cpu[1] if cpu else os.uname().machine}, {time.strftime('%Y-%m-%d')}"
    draw(facts, about, args.images)
    if args.out:
        args.out.write_text(json.dumps({"about": about, "table": table.rows, **facts}, indent=1))
    print(f"\n{about}\n\n{table.text()}")


if __name__ == "__main__":
    main()
