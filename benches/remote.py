#!/usr/bin/env python3
"""What a model on a server costs and brings: the real Triton beside the node on this machine, and the node alone.

    .venv/bin/python benches/remote.py [--binary target/release/twinsight] [--seconds 15] [--rounds 2] [--only TEXT] [--cameras 4]

One line a setting and round: cameras and frames a second that they offer, frames a second inferred, p50 and p99 of the age of the results
when they were sent, bytes that a frame's request has, requests in a batch of the server, how many requests the node had found best to have
under way, and processor time of a frame in the node and in the server. "few" is one camera, so that nothing waits; "many" offers more than
the machine can do. In the settings "stand-in" the server computes nothing: a run takes 20 ms and 2 ms for each picture, as on an accelerator
that has room, which this machine lacks.

Needs a release build, and scripts/setup --test: cargo build --release --features vp8,etcd,kubernetes --bin twinsight
"""
import argparse
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "media/pedestrians.h264"
SERVE = ROOT / "tests/interop/serving/serve.py"
TICKS = os.sysconf("SC_CLK_TCK")

# Name, model on the server (none: the same model on this machine), scheme, nodes, cameras of all nodes (0: the argument), instances of the
# server's model.
SETTINGS = [
    ("few: local f32", None, "", 1, 1, 0),
    ("few: f32 gRPC", "nanodet", "grpc", 1, 1, 2),
    ("few: f32 HTTP", "nanodet", "http", 1, 1, 2),
    ("few: f16 gRPC", "nanodet_f16", "grpc", 1, 1, 2),
    ("few: u8 gRPC", "nanodet_u8", "grpc", 1, 1, 2),
    ("few: u8 HTTP", "nanodet_u8", "http", 1, 1, 2),
    ("few: JPEG gRPC", "nanodet_jpeg", "grpc", 1, 1, 2),
    ("many: local f32", None, "", 1, 0, 0),
    ("many: f32 gRPC", "nanodet", "grpc", 1, 0, 2),
    ("many: f32 HTTP", "nanodet", "http", 1, 0, 2),
    ("many: u8 gRPC", "nanodet_u8", "grpc", 1, 0, 2),
    ("many: u8 HTTP", "nanodet_u8", "http", 1, 0, 2),
    ("many: u8 gRPC, two nodes", "nanodet_u8", "grpc", 2, 0, 2),
    ("many: one a run, two nodes", "nanodet_single", "grpc", 2, 0, 2),
    ("many: dynamic batching, two nodes", "nanodet_dynamic", "grpc", 2, 0, 2),
    ("stand-in: one a run, one node", "stand_in_single", "grpc", 1, 8, 1),
    ("stand-in: dynamic batching, one node", "stand_in_dynamic", "grpc", 1, 8, 1),
    ("stand-in: one a run, two nodes", "stand_in_single", "grpc", 2, 8, 1),
    ("stand-in: dynamic batching, two nodes", "stand_in_dynamic", "grpc", 2, 8, 1),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()


def wait_for(what, holds, limit_s=60):
    deadline = time.monotonic() + limit_s
    while True:
        with contextlib.suppress(OSError):
            if holds():
                return
        if time.monotonic() > deadline:
            sys.exit(f"{what} did not come within {limit_s} s")
        time.sleep(0.05)


def busy_s(group):
    """Processor time of all processes of a group, in seconds."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                total += int(fields[11]) + int(fields[12])
    return total / TICKS


class Children:
    """Processes, each the leader of a group, that end with the setting."""

    def __init__(self):
        self.all = []

    def start(self, command, env=None, log=subprocess.DEVNULL):
        # A setting of the shell would be one of the nodes.
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("TWINSIGHT_")}
        child = subprocess.Popen(
            list(map(str, command)), cwd=ROOT, env={**inherited, "RUST_LOG": "warn", **(env or {})},
            stdout=subprocess.DEVNULL, stderr=log, process_group=0,
        )
        self.all.append(child)
        return child

    def end(self):
        for child in reversed(self.all):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
        for child in self.all:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                pass
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


class Events:
    """The ages of a node's results as they come by its HTTP."""

    def __init__(self, port):
        self.ages = []
        self.stream = urllib.request.urlopen(f"http://127.0.0.1:{port}/api/events?type=detections", timeout=60)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            for line in self.stream:
                if line.startswith(b"data:"):
                    event = json.loads(line[5:])
                    if "latencyMs" in event:
                        self.ages.append((time.monotonic(), event["latencyMs"]["total"]))


def metrics(port):
    """Sums by the name of the metric."""
    sums = {}
    for name, value in re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", get(port, "/metrics"), re.MULTILINE):
        sums[name] = sums.get(name, 0) + float(value)
    return sums


def measure(setting, args, folder):
    name, model, scheme, nodes, cameras, instances = setting
    cameras = cameras or args.cameras
    children = Children()
    where = None
    try:
        hub = free_port()
        url = {"PHYSTACK_SIMULATOR_URL": f"http://127.0.0.1:{hub}", "TWINSIGHT_ICE__INTERFACES": "lo"}
        children.start([args.binary, "hub", "--listen", f"127.0.0.1:{hub}"])
        config = f'[defaults]\nmax_fps = 0.0\nmodel = "{"nanodet_g_coco" if model is None else "served"}"\n'
        server = None
        if model:
            http, grpc = free_port(), free_port()
            where = Path(tempfile.mkdtemp(prefix="twinsight-serving-", dir=folder))
            command = [ROOT / ".venv/bin/python", SERVE, "triton", where, "--http", http, "--grpc", grpc, "--models", model]
            server = children.start([*command, "--instances", instances, "--environment", args.triton])
            wait_for("Triton", lambda: get(http, f"/v2/models/{model}/ready") == "")
            port = grpc if scheme == "grpc" else http
            config += (
                f'[models.served]\nbackend = "kserve"\nurl = "{scheme}://127.0.0.1:{port}"\nmodel = "{model}"\n'
                f'manifest = "nanodet_g_coco"\ndeadline_ms = 2000\nmax_in_flight = 16\n'
            )
        running = []
        for node in range(nodes):
            port = free_port()
            own = [f'[[cameras]]\ntwin_id = "cam-{n}"\n' for n in range(cameras) if n % nodes == node]
            file = folder / f"node-{node}.toml"
            file.write_text(f'[http]\nlisten = "127.0.0.1:{port}"\n{config}{"".join(own)}')
            child = children.start([args.binary, "run", "--config", file], {**url, "TWIN_ID": f"node-{node}"}, args.log)
            running.append((child, port))
        for n in range(cameras):
            children.start([args.binary, "camera", "--twin", f"cam-{n}", "--clip", CLIP, "--fps", args.fps], url)
        for _, port in running:
            wait_for("a result", lambda: metrics(port).get("twinsight_frames_inferred_total", 0) > 20)
        events = [Events(port) for _, port in running]
        time.sleep(args.settle)

        def reading():
            sums = [metrics(port) for _, port in running]
            of = lambda key: sum(each.get(f"twinsight_{key}", 0) for each in sums)
            stats = json.loads(get(http, f"/v2/models/{model}/stats"))["model_stats"][0] if model else {}
            return {
                "at": time.monotonic(),
                "decoded": of("frames_decoded_total"),
                "inferred": of("frames_inferred_total"),
                "requests": of("remote_requests_total"),
                "bytes": of("remote_request_bytes_total"),
                "slots": of("remote_slots"),
                "node_s": sum(busy_s(child.pid) for child, _ in running),
                "server_s": busy_s(server.pid) if server else 0,
                "pictures": stats.get("inference_count", 0),
                "runs": stats.get("execution_count", 0),
            }

        before = reading()
        time.sleep(args.seconds)
        after = reading()
        grown = {key: after[key] - before[key] for key in before}
        ages = sorted(age for each in events for at, age in each.ages if before["at"] <= at <= after["at"])
        share = lambda part: ages[min(len(ages) - 1, int(len(ages) * part))] if ages else float("nan")
        per = lambda key, of: grown[key] / grown[of] if grown[of] else float("nan")
        return [
            name, cameras, f'{grown["decoded"] / grown["at"]:.1f}', f'{grown["inferred"] / grown["at"]:.1f}',
            f"{share(0.5):.0f}", f"{share(0.99):.0f}",
            f'{per("bytes", "requests"):,.0f}' if model else "", f'{per("pictures", "runs"):.2f}' if model else "",
            f'{after["slots"]:.0f}' if model else "",
            f'{1000 * per("node_s", "inferred"):.1f}', f'{1000 * per("server_s", "inferred"):.1f}' if model else "",
        ]
    finally:
        children.end()
        # Others run servers beside this one.
        for left in Path("/dev/shm").glob(f"{where.name}-*") if where else ():
            left.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "target/release/twinsight")
    parser.add_argument("--triton", type=Path, default=ROOT / ".tools/triton", help="where it is installed")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--settle", type=float, default=8, help="seconds from the first results to the measurement")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cameras", type=int, default=4, help="of the settings with many")
    parser.add_argument("--fps", type=float, default=15, help="frames a second that each camera sends")
    parser.add_argument("--only", default="", help="settings with this in their name, by a regular expression")
    parser.add_argument("--log", action="store_const", const=None, default=subprocess.DEVNULL, help="show the nodes' logs")
    args = parser.parse_args()
    print("| setting | cameras | offered/s | inferred/s | p50 ms | p99 ms | bytes | batch | slots | node ms | server ms |")
    print("|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for round_ in range(args.rounds):
        for setting in SETTINGS:
            if re.search(args.only, setting[0]):
                with tempfile.TemporaryDirectory() as folder:
                    cells = measure(setting, args, Path(folder))
                print("|", " | ".join(map(str, cells)), "|", flush=True)


if __name__ == "__main__":
    main()
