"""More and more cameras, for the node and for the yardstick, with the default model and its f32 twin."""
import time

from measure import FPS, Watcher, Window, percentile, receiving

LOADS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12)
# A program's line ends after so many loads in a row that it does not carry.
BEYOND = 2
# p99 of the age of what counts as carried, in milliseconds.
OLDEST = 500


def sweep(bench, table, args, facts):
    """More and more cameras, for the node and for the yardstick, with each model: how many each carries, and how old its results are."""
    rows = {(program, kind): [] for kind in args.kinds for program in ("twinsight", "Python")}
    cameras = bench.cameras(max(LOADS), args.clip, FPS)
    for count in LOADS:
        for (program, kind), found in rows.items():
            if len(found) >= BEYOND and not any(map(carries, found[-BEYOND:])):
                continue
            measure = node if program == "twinsight" else yardstick
            found.append({"cameras": count, **measure(bench, args.kinds[kind], cameras[:count], args.seconds / 2)})
            print(f"# {program} {kind}: {found[-1]}", flush=True)
    for camera in cameras:
        camera.stop()
    facts["sweep"] = {f"{program}, {kind}": found for (program, kind), found in rows.items()}
    tell(table, rows, list(args.kinds))
    facts["carried"] = {kind: carried(rows["twinsight", kind]) for kind in args.kinds}


def node(bench, model, cameras, seconds):
    running = bench.node(model, [camera.name for camera in cameras])
    watcher = Watcher(bench, running.name)
    receiving(running, cameras)
    time.sleep(2)
    window, from_event = Window(bench, running, cameras), len(watcher.events)
    time.sleep(seconds)
    window.close()
    latencies = [latency for _, _, latency, _ in watcher.events[from_event:]]
    ages = [latency["total"] for latency in latencies]
    running.stop()
    watcher.stop()
    return {"p50": percentile(ages, 50), "p99": percentile(ages, 99), "inferred": window.count("frames_inferred_total") / offered(cameras, window.seconds),
            "cpu": window.spent("node") / window.seconds,
            "parts": {part: round(percentile([latency[part] for latency in latencies], 50), 1) for part in (latencies[0] if latencies else [])}}


def yardstick(bench, model, cameras, seconds):
    """Its ages begin at a frame's first packet, as the node's do."""
    found = bench.yardstick(model, [camera.name for camera in cameras], seconds, threads=2)
    never = float("inf")
    return {"p50": found["age_from_packet_ms"]["p50"] or never, "p99": found["age_from_packet_ms"]["p99"] or never,
            "p50_from_callback": found["age_ms"]["p50"] or never, "inferred": found["inferred"] / offered(cameras, found["seconds"]),
            "cpu": found["cpu_s"] / found["seconds"]}


def offered(cameras, seconds):
    return len(cameras) * FPS * seconds


def carries(row):
    return row["inferred"] >= 0.95 and row["p99"] <= OLDEST


def carried(rows):
    return max((row["cameras"] for row in rows if carries(row)), default=0)


def tell(table, rows, kinds):
    for kind in kinds:
        ours, theirs = rows["twinsight", kind], rows["Python", kind]
        table.add(f"9 cameras of {FPS} fps carried ({kind}): 95 % inferred, p99 of the age ≤ {OLDEST} ms", "",
                  f"{carried(ours)}, the yardstick {carried(theirs)}")
        one, other = ours[0], theirs[0]
        table.add(f"9 one camera ({kind}): p50 of the age from a frame's first packet", "< the yardstick's", f"{one['p50']:.1f} ms and {other['p50']:.1f} ms",
                  f"{one['p50'] / other['p50']:.2f}", one["p50"] < other["p50"])
        table.add(f"9 the same ({kind}), the yardstick's from its client's callback", "", f"{one['p50']:.1f} ms and {other['p50_from_callback']:.1f} ms",
                  f"{one['p50'] / other['p50_from_callback']:.2f}")
        table.add(f"9 CPU for that camera ({kind})", "", f"{100 * one['cpu']:.0f} and {100 * other['cpu']:.0f} % of a core",
                  f"{one['cpu'] / other['cpu']:.2f}")
    if len(kinds) == 2:
        fast, slow = (rows["twinsight", kind] for kind in kinds)
        limit = next((row for row in slow if row["cameras"] == carried(slow)), None)
        # A tenth is what two runs of the same differ by.
        fresh = max((row["cameras"] for row in fast if limit and carries(row) and row["p99"] <= 1.1 * limit["p99"]), default=0)
        table.add(f"9 cameras carried in {kinds[0]} no older (p99) than the most that are in {kinds[1]}", "≥ 2 times as many",
                  f"{fresh} and {carried(slow)}" + (f" (p99 {limit['p99']:.0f} ms)" if limit else ""),
                  f"{fresh / max(1, carried(slow)):.1f}", fresh >= 2 * max(1, carried(slow)))
