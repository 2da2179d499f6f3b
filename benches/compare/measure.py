"""Processes, their CPU and memory, and what a node says of itself: the instruments of compare.py."""
import collections
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Another build, such as target/debug, shows whether the scenarios work; its figures mean nothing.
BUILD = ROOT / os.environ.get("COMPARE_BUILD", "target/release")
TWINSIGHT = BUILD / "twinsight"
EXAMPLES = BUILD / "examples"
PYTHON = ROOT / ".venv/bin/python"
TICK = os.sysconf("SC_CLK_TCK")
# Of every camera, unless a scenario says otherwise.
FPS = 15


class Program:
    """A child process whose output goes to files."""

    def __init__(self, folder, name, command, env=None):
        self.name = name
        self.log = folder / f"{name}.log"
        self.out = folder / f"{name}.out"
        with open(self.out, "wb") as out, open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command], stdout=out, stderr=log, cwd=ROOT,
                env={**os.environ, **(env or {})})

    @property
    def pid(self):
        return self.process.pid

    def cpu(self):
        """CPU seconds of all threads so far."""
        return cpu_of(f"/proc/{self.pid}/stat")

    def cpu_of_threads(self):
        """CPU seconds by the name of the thread."""
        spent = collections.Counter()
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            try:
                spent[(task / "comm").read_text().strip()] += cpu_of(task / "stat")
            except (FileNotFoundError, ProcessLookupError):
                pass
        return spent

    def resident_mb(self):
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def wait_for(self, line, seconds=30):
        until = time.monotonic() + seconds
        while line not in self.out.read_text() + self.log.read_text():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.name} does not say {line!r}: see {self.log}")
            time.sleep(0.05)
        return self

    def balances(self):
        """Whether a node that has ended closed its books, and every ledger balanced."""
        log = self.log.read_text()
        return "the books are closed" in log and "ledger does not balance" not in log

    def stop(self, how=signal.SIGTERM, seconds=20):
        """How long it took to end."""
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(seconds)
        return time.monotonic() - started


def cpu_of(stat):
    fields = pathlib.Path(stat).read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def machine():
    """Idle and all seconds of the machine's cores so far."""
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (fields[3] + fields[4]) / TICK, sum(fields) / TICK


def scrape(port):
    """The node's metrics: {(name, labels as a sorted tuple of pairs): value}."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    values = {}
    for line in text.splitlines():
        found = re.match(r"twinsight_(\w+)(?:\{(.*)\})? (\S+)$", line)
        if found:
            labels = tuple(sorted(re.findall(r'(\w+)="([^"]*)"', found[2] or "")))
            values[found[1], labels] = float(found[3])
    return values


def total(values, name, **wanted):
    """The sum of a metric over all labels but those wanted."""
    return sum(value for (metric, labels), value in values.items()
               if metric == name and all(dict(labels).get(k) == v for k, v in wanted.items()))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Watcher:
    """Reads the node's events as they come, with the time of their arrival here."""

    def __init__(self, bench, node):
        env = {**os.environ, **bench.env, "TWIN_ID": f"watch-{node}"}
        self.process = subprocess.Popen([EXAMPLES / "watch_events", node], env=env, cwd=ROOT,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.process.stdout.readline()
        self.events = []
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            self.events.append((time.time(), event["camera"]["twinId"], event["latencyMs"], event))

    def stop(self):
        self.process.terminate()
        self.process.wait(10)
        self.thread.join(10)


class Bench:
    """A hub, and the folder of everything that runs."""

    def __init__(self, folder):
        self.folder = folder
        self.port = free_port()
        self.env = {"PHYSTACK_SIMULATOR_URL": f"http://127.0.0.1:{self.port}", "RUST_LOG": "info"}
        self.hub = Program(folder, "hub", [TWINSIGHT, "hub", "--listen", f"127.0.0.1:{self.port}"])
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        self.runs = 0
        self.nodes = []

    def cameras(self, count, clip, fps, prefix="cam"):
        return [Program(self.folder, f"{prefix}-{n}", [TWINSIGHT, "camera", "--twin", f"{prefix}-{n}", "--clip", clip,
                                                      "--fps", fps], self.env) for n in range(count)]

    def node(self, model, cameras, threads=0, max_age_ms=500):
        """A node for camera twins, which infers every frame that it can; with its port."""
        self.runs += 1
        name, port = f"node-{self.runs}", free_port()
        lines = [f'[http]\nlisten = "127.0.0.1:{port}"', f"[runtime]\nthreads = {threads}",
                 f'[defaults]\nmodel = "{model}"\nmax_fps = 0.0\nmax_age_ms = {max_age_ms}']
        lines += [f'[[cameras]]\ntwin_id = "{camera}"' for camera in cameras]
        config = self.folder / f"{name}.toml"
        config.write_text("\n".join(lines) + "\n")
        node = Program(self.folder, name, [TWINSIGHT, "run", "--config", config], {**self.env, "TWIN_ID": name})
        node.port = port
        self.nodes.append(node)
        return node

    def yardstick(self, model, cameras, seconds, threads=1):
        """The figures that the Python node prints, and what its decoder took."""
        self.runs += 1
        name = f"python-{self.runs}"
        program = Program(self.folder, name, [PYTHON, ROOT / "benches/compare/yardstick.py", *cameras, "--seconds", seconds, "--threads",
                                              threads, "--model", ROOT / f"models/{model}.onnx"], {**self.env, "TWIN_ID": name})
        program.process.wait(seconds + 90)
        own, decoder = program.out.read_text().strip().splitlines()[-2:]
        return {**json.loads(own), **json.loads(decoder)}

    def bare(self, model, sessions=1, threads=1, seconds=5):
        """The session alone."""
        command = [EXAMPLES / "bare_loop", ROOT / f"models/{model}.onnx", "--sessions", sessions, "--threads", threads,
                   "--seconds", seconds]
        output = subprocess.run([str(part) for part in command], cwd=ROOT, check=True, capture_output=True, text=True)
        return json.loads(output.stdout)

    def stop(self):
        self.hub.stop()


def receiving(node, cameras, seconds=60):
    """Waits until frames of all cameras are decoded."""
    def all_decode():
        try:
            values = scrape(node.port)
        except OSError:
            return False
        return all(total(values, "frames_decoded_total", camera=camera.name) > 5 for camera in cameras)
    wait_until(all_decode, seconds, "frames of every camera")


class Window:
    """What a node and everything around it did between two moments."""

    def __init__(self, bench, node, cameras):
        self.bench, self.node, self.cameras = bench, node, cameras
        self.before = self.read()

    def read(self):
        return {"at": time.monotonic(), "wall": time.time(), "machine": machine(), "node": self.node.cpu(),
                "threads": self.node.cpu_of_threads(), "cameras": sum(camera.cpu() for camera in self.cameras),
                "hub": self.bench.hub.cpu(), "metrics": scrape(self.node.port)}

    def close(self):
        self.after = self.read()
        return self

    def spent(self, key):
        return self.after[key] - self.before[key]

    @property
    def seconds(self):
        return self.spent("at")

    def idle(self):
        idle, everything = (b - a for a, b in zip(self.before["machine"], self.after["machine"]))
        return idle / everything

    def count(self, name, **labels):
        return total(self.after["metrics"], name, **labels) - total(self.before["metrics"], name, **labels)

    def thread(self, prefix):
        return sum(spent - self.before["threads"].get(name, 0)
                   for name, spent in self.after["threads"].items() if name.startswith(prefix))


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share / 100))] if ordered else float("nan")


def jain(counts):
    """1: all have the same; 1/n: one has all."""
    return sum(counts) ** 2 / (len(counts) * sum(count * count for count in counts)) if any(counts) else 0.0


def wait_until(holds, seconds, what):
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise RuntimeError(f"not within {seconds} s: {what}")
        time.sleep(0.02)
