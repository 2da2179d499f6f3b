"""The plots of docs/images, as SVG that reads on light and dark pages."""
import math
import xml.sax.saxutils

OURS, THEIRS, INK, FAINT = "#0f766e", "#b45309", "#475569", "#cbd5e1"
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


def ages(sweep, about):
    """Age of a frame against the number of cameras: median and p99 of the node and of the yardstick; logarithmic."""
    width, height, left, right, top, bottom = 760, 430, 64, 150, 70, 60
    loads = sorted({row["cameras"] for rows in sweep.values() for row in rows})
    low, high = 10, 10 ** math.ceil(math.log10(max(row["p99"] for rows in sweep.values() for row in rows)))
    x = lambda cameras: left + (width - left - right) * loads.index(cameras) / max(1, len(loads) - 1)
    y = lambda ms: top + (height - top - bottom) * (math.log(high) - math.log(max(low, ms))) / (math.log(high) - math.log(low))
    parts = [text(left, 28, "How old a result is, against the load", kind="title"), text(left, 48, about, kind="small")]
    step = low
    while step <= high:
        for ms in (step, 2 * step, 5 * step):
            if ms <= high:
                parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(ms):.1f}" y2="{y(ms):.1f}" stroke="{FAINT}" stroke-width="1"/>')
                label = f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms"
                parts.append(text(left - 8, y(ms) + 4, label, "end", "small"))
        step *= 10
    for cameras in loads:
        parts.append(text(x(cameras), height - bottom + 20, cameras, "middle", "small"))
    parts.append(text((left + width - right) / 2, height - 16, "cameras of 15 frames a second, 1280x720", "middle"))
    labels = []
    for (name, rows), color in zip(sweep.items(), (OURS, THEIRS)):
        for share, dash in (("p99", ""), ("p50", ' stroke-dasharray="5 4"')):
            points = [(x(row["cameras"]), y(row[share])) for row in rows]
            line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2.5"{dash}/>')
            parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{color}"/>' for a, b in points]
            labels.append([points[-1][1], f"{name}, {share}", color])
    # Labels at the ends of the lines, moved apart.
    labels.sort()
    for before, after in zip(labels, labels[1:]):
        after[0] = max(after[0], before[0] + 17)
    parts += [text(width - right + 10, at + 4, words, color=color) for at, words, color in labels]
    return page(width, height, parts)


def shares(split, yardstick, about):
    """Where the CPU of a frame goes outside the session, a bar for each program, in milliseconds."""
    width, left, right, top, bar, gap = 760, 110, 30, 76, 44, 34
    colors = {"network": "#1d4ed8", "depacketize": "#7c3aed", "decode": "#0f766e", "copy": "#65a30d", "preprocess": "#ca8a04",
              "postprocess": "#dc2626", "all but decoding": "#94a3b8"}
    rows = [("twinsight", split), ("Python", yardstick)]
    longest = max(sum(parts.values()) for _, parts in rows)
    scale = (width - left - right) / longest
    parts = [text(20, 28, "CPU of a frame outside the model's run", kind="title"), text(20, 48, about, kind="small")]
    for n, (name, values) in enumerate(rows):
        at, y = left, top + n * (bar + gap)
        parts.append(text(left - 12, y + bar / 2 + 5, name, "end"))
        for part, ms in values.items():
            parts.append(f'<rect x="{at:.1f}" y="{y}" width="{max(0.5, ms * scale):.1f}" height="{bar}" fill="{colors[part]}"/>')
            if ms * scale > 60:
                parts.append(text(at + ms * scale / 2, y + bar / 2 + 5, f"{ms:.2f}", "middle", color="#ffffff"))
            at += ms * scale
        parts.append(text(left, y + bar + 17, f"{sum(values.values()):.2f} ms", kind="small"))
    y, at = top + 2 * (bar + gap) + 14, left
    for part in {**split, **yardstick}:
        label = "network, SRTP, hub" if part == "network" else part
        need = 30 + 7 * len(label)
        if at + need > width - 10:
            y, at = y + 22, left
        parts.append(f'<rect x="{at}" y="{y - 11}" width="13" height="13" fill="{colors[part]}"/>')
        parts.append(text(at + 19, y, label, kind="small"))
        at += need
    return page(width, y + 24, parts)
