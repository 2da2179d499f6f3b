"""The plots of docs/images, as SVG that reads on light and dark pages."""
import math
import xml.sax.saxutils

FAINT = "#cbd5e1"
# The node green, the yardstick brown; INT8 dark, f32 light and dashed.
SERIES = {"twinsight, INT8": ("#0f766e", ""), "twinsight, f32": ("#2dd4bf", "6 4"), "Python, INT8": ("#b45309", ""), "Python, f32": ("#fbbf24", "6 4")}
PARTS = {"network": "#1d4ed8", "depacketize": "#7c3aed", "decode": "#0f766e", "copy": "#65a30d", "preprocess": "#ca8a04", "postprocess": "#dc2626",
         "all but decoding": "#94a3b8"}
STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #475569 } .title { font-size: 16px; font-weight: 600 } .small { font-size: 11px }
@media (prefers-color-scheme: dark) { text { fill: #cbd5e1 } .paper { fill: #0f172a } .grid { stroke: #334155 } }
</style>"""


def text(x, y, words, anchor="start", kind="", color=None):
    fill = f' style="fill:{color}"' if color else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}"{fill}>{xml.sax.saxutils.escape(str(words))}</text>'


def page(width, height, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
            f'{STYLE}<rect class="paper" width="{width}" height="{height}" fill="#ffffff"/>{"".join(parts)}</svg>\n')


def line(points, color, dash):
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2.5" stroke-dasharray="{dash or "none"}"/>'


def ages(sweep, about):
    """Age of a result against the number of cameras, logarithmic: a panel for the median and one for the p99, a line for each program and
    model. A load that is not carried, of which more than a twentieth of the frames is not inferred, is a hollow point."""
    width, height, left, gap, top, bottom = 760, 400, 64, 40, 112, 56
    panel = (width - left - gap - 20) / 2
    rows = [row for found in sweep.values() for row in found]
    loads = sorted({row["cameras"] for row in rows})
    finite = [row[share] for row in rows for share in ("p50", "p99") if math.isfinite(row[share])]
    low, high = 10, max(200, *finite) * 1.1
    y = lambda ms: top + (height - top - bottom) * (math.log(high) - math.log(min(high, max(low, ms)))) / (math.log(high) - math.log(low))
    parts = [text(20, 28, "How old a result is, against the load", kind="title"), text(20, 48, about, kind="small")]
    at = 20
    for name in sweep:
        color, dash = SERIES[name]
        parts += [line([(at, 70), (at + 34, 70)], color, dash), f'<circle cx="{at + 17}" cy="70" r="3.5" fill="{color}"/>', text(at + 42, 74, name)]
        at += 170
    for n, (share, title) in enumerate((("p50", "half of the results are younger (p50)"), ("p99", "99 of 100 are younger (p99)"))):
        start = left + n * (panel + gap)
        x = lambda cameras: start + panel * (loads.index(cameras) + 0.5) / len(loads)
        parts.append(text(start, top - 12, title, kind="small"))
        for ms in (base * step for base in (10, 100, 1000, 10000) for step in (1, 2, 5)):
            if ms <= high:
                parts.append(f'<line class="grid" x1="{start:.1f}" x2="{start + panel:.1f}" y1="{y(ms):.1f}" y2="{y(ms):.1f}" stroke="{FAINT}"/>')
                if n == 0:
                    parts.append(text(start - 8, y(ms) + 4, f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms", "end", "small"))
        for cameras in loads:
            parts.append(text(x(cameras), height - bottom + 18, cameras, "middle", "small"))
        for name, found in sweep.items():
            color, dash = SERIES[name]
            parts.append(line([(x(row["cameras"]), y(row[share])) for row in found], color, dash))
            for row in found:
                fill = f'fill="{color}"' if row["inferred"] >= 0.95 else 'class="paper" fill="#ffffff"'
                parts.append(f'<circle cx="{x(row["cameras"]):.1f}" cy="{y(row[share]):.1f}" r="4" {fill} stroke="{color}" stroke-width="1.5"/>')
    parts.append(text(width / 2, height - 14, "cameras of 15 frames a second, 1280x720; hollow: more than 5 % of the frames are not inferred", "middle", "small"))
    return page(width, height, parts)


def shares(overhead, about):
    """Where the CPU of a frame goes outside the model's run, a bar for each program and model, in milliseconds."""
    width, left, right, top, bar, gap = 760, 130, 30, 76, 34, 32
    rows = []
    for kind, found in overhead.items():
        rows.append((f"twinsight, {kind}", {part: found["split"][part] for part in PARTS if part in found["split"]}, found["split"]["inference"]))
        decode = found["yardstick_decode_ms"]
        rows.append((f"Python, {kind}", {"decode": decode, "all but decoding": found["yardstick_ms"] - decode}, found["yardstick_session_ms"]))
    scale = (width - left - right) / max(sum(values.values()) for _, values, _ in rows)
    parts = [text(20, 28, "CPU of a frame outside the model's run", kind="title"), text(20, 48, about, kind="small")]
    for n, (name, values, run) in enumerate(rows):
        at, y = left, top + n * (bar + gap)
        parts.append(text(left - 12, y + bar / 2 + 5, name, "end"))
        for part, ms in values.items():
            parts.append(f'<rect x="{at:.1f}" y="{y}" width="{max(0.5, ms * scale):.1f}" height="{bar}" fill="{PARTS[part]}"/>')
            if ms * scale > 60:
                parts.append(text(at + ms * scale / 2, y + bar / 2 + 5, f"{ms:.2f}", "middle", color="#ffffff"))
            at += ms * scale
        parts.append(text(left, y + bar + 16, f"{sum(values.values()):.2f} ms, beside {run:.1f} ms of the model's run", kind="small"))
    y, at = top + len(rows) * (bar + gap) + 14, 20
    for part in PARTS:
        label = "network, SRTP, hub" if part == "network" else part
        need = 30 + 7 * len(label)
        if at + need > width - 10:
            y, at = y + 22, 20
        parts.append(f'<rect x="{at}" y="{y - 11}" width="13" height="13" fill="{PARTS[part]}"/>')
        parts.append(text(at + 19, y, label, kind="small"))
        at += need
    return page(width, y + 24, parts)
