# SPDX-License-Identifier: Apache-2.0
"""Line plots as SVG, with nothing but text."""

import math
from html import escape

STYLE = {  # colour (told apart also by the colour-blind), mark
    "neap": ("#0072b2", "circle"),
    "btrfs": ("#d55e00", "square"),
    "restic": ("#5f5f5f", "triangle"),
    "borg": ("#009e73", "square"),
}
WIDTH, HEIGHT = 460, 330
LEFT, RIGHT, TOP, BOTTOM = 68, 30, 38, 52


class Axis:
    """Values to pixels, and where the ticks are."""

    def __init__(self, values, low, high, log):
        self.low, self.high, self.log = low, high, log
        if log:
            self.ticks = self._log_ticks(min(values), max(values))
            self.range = (math.log10(self.ticks[0]),
                          math.log10(self.ticks[-1]))
        else:
            self.ticks = self._ticks(max(values))
            self.range = (0, self.ticks[-1])

    @staticmethod
    def _ticks(top):
        step = 10 ** math.floor(math.log10(top or 1))
        step = next(step * m for m in (0.1, 0.2, 0.5, 1, 2)
                    if top <= 6 * step * m)
        return [i * step for i in range(math.ceil(top / step - 1e-9) + 1)]

    @staticmethod
    def _log_ticks(low, high):
        marks = [m * 10.0 ** e for e in range(-6, 13) for m in (1, 2, 5)]
        first = max(i for i, m in enumerate(marks) if m <= low * 1.001)
        last = min(i for i, m in enumerate(marks) if m >= high * 0.999)
        return marks[first:max(last, first + 1) + 1]

    def at(self, value):
        v = math.log10(value) if self.log else value
        a, b = self.range
        return self.low + (v - a) / (b - a) * (self.high - self.low)


def _text(x, y, words, anchor="middle", size=12, more=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
            f'font-size="{size}" {more}>{escape(words)}</text>')


def _mark(kind, x, y, colour):
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'
    if kind == "square":
        return (f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" '
                f'fill="{colour}"/>')
    return (f'<path d="M{x:.1f} {y - 5.5:.1f}l5 9h-10z" fill="{colour}"/>')


def _grid(ax, ay, xlabel, ylabel):
    out = []
    for v in ay.ticks:
        y = ay.at(v)
        out.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" '
                   f'stroke="#e2e2e2"/>')
        out.append(_text(LEFT - 8, y + 4, f"{v:,g}", "end"))
    for v in ax.ticks:
        x = ax.at(v)
        out.append(f'<path d="M{x:.1f} {HEIGHT - BOTTOM}v5" stroke="#555"/>')
        out.append(_text(x, HEIGHT - BOTTOM + 19, f"{v:,g}"))
    out.append(f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" '
               f'fill="none" stroke="#555"/>')
    out.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, xlabel))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(_text(16, middle, ylabel,
                     more=f'transform="rotate(-90 16 {middle})"'))
    return out


def panel(title, xlabel, ylabel, series, log_x=False, log_y=False):
    """SERIES: (peer, [(x, y)…])…; an SVG group of WIDTH by HEIGHT."""
    xs = [x for _, points in series for x, _ in points]
    ys = [max(y, 1e-6) for _, points in series for _, y in points]
    ax = Axis(xs, LEFT, WIDTH - RIGHT, log_x)
    ay = Axis(ys, HEIGHT - BOTTOM, TOP, log_y)
    out = _grid(ax, ay, xlabel, ylabel)
    out.append(_text(LEFT, 20, title, "start", 14, 'font-weight="600"'))
    for name, points in series:
        colour, kind = STYLE.get(name, ("#999", "circle"))
        at = [(ax.at(x), ay.at(max(y, 1e-6))) for x, y in sorted(points)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" '
                   f'stroke-width="{3 if name == "neap" else 2}"/>')
        out += [_mark(kind, x, y, colour) for x, y in at]
    return out


def _legend(names):
    out, x = [], LEFT
    for name, title in names:
        colour, kind = STYLE.get(name, ("#999", "circle"))
        out.append(f'<path d="M{x} 16h26" stroke="{colour}" '
                   f'stroke-width="{3 if name == "neap" else 2}"/>')
        out.append(_mark(kind, x + 13, 16, colour))
        out.append(_text(x + 33, 20, title, "start", 13))
        x += 52 + 8 * len(title)
    return out


def write(path, names, panels):
    """PANELS side by side, below one legend of NAMES: (peer, title)…"""
    width, height = WIDTH * len(panels), HEIGHT + 30
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
           f'height="{height}" viewBox="0 0 {width} {height}" '
           f'font-family="Helvetica, Arial, sans-serif" fill="#222">',
           f'<rect width="{width}" height="{height}" fill="#fff"/>']
    out += _legend(names)
    for i, p in enumerate(panels):
        out += [f'<g transform="translate({i * WIDTH} 30)">', *p, "</g>"]
    with open(path, "w") as f:
        f.write("\n".join(out + ["</svg>"]) + "\n")
