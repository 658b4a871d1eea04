# SPDX-License-Identifier: Apache-2.0
"""What neap must reach, and whether it does."""

from collections import namedtuple

REFERENCE = 300  # pgbench scale: 8.2 GB
MIB = 1 << 20

Verdict = namedtuple("Verdict", "line must measured word")


def quarter(scale):
    return max(1, int(scale * 0.25))


def scan_rate(r, data):
    """Bytes a second of neap's full scan, its start and end included."""
    rows = [x for x in r.select(data=data, line="scan", peer="neap",
                                scale=r.about["scale"]) if "error" not in x]
    rates = sorted(x["read_bytes"] / x["wall"] for x in rows)
    return rates[len(rates) // 2] if rates else None


def _verdict(line, must, got, limit, write):
    """GOT must be at most LIMIT; None: not measured."""
    if got is None:
        return Verdict(line, must, "not measured", "?")
    return Verdict(line, must, write(got),
                   "met" if got <= limit else "**missed**")


def _ratio(a, b):
    return a / b if a is not None and b else None


def judge(r):
    """A verdict for each line of the budgets, on pgbench."""
    scale, change = r.about["scale"], r.about["change"]

    def m(line, peer, figure="wall", **want):
        return r.median(figure, data="pgbench", line=line, peer=peer,
                        scale=want.pop("scale", scale), **want)

    def x(v):
        return f"{v:.3f} ×"

    def s(v):
        return f"{v:.2f} s"

    def mb(v):
        return f"{v / 1e6:.1f} MB"

    def of_first(peer):
        return _ratio(m("first", "neap"), m("first", peer))

    def of_next(peer):
        return _ratio(m("next", "neap", change=change),
                      m("next", peer, change=change))

    out = [_verdict("first backup", "≤ 0.5 × btrfs send | zstd",
                    of_first("btrfs"), 0.5, x),
           _verdict("next backup", "≤ 0.15 × btrfs send | zstd",
                    of_next("btrfs"), 0.15, x),
           _verdict("", "≤ 0.06 × restic", of_next("restic"), 0.06, x)]
    if scale == REFERENCE:
        out += [_verdict("stored by the first", "≤ 445 MB",
                         m("first", "neap", "stored"), 445e6, mb),
                _verdict("stored by the next, with metadata", "≤ 17 MB",
                         m("next", "neap", "stored", change=change), 17e6, mb)]
    out.append(_verdict("nothing changed", "≤ 0.3 s", m("nothing", "neap"),
                        0.3, s))
    out.append(_verdict("", "≤ 0.3 s, from warm caches", m("again", "neap"),
                        0.3, s))
    for i, (figure, words) in enumerate((("wall", "time"), ("rss", "memory"),
                                         ("metadata", "metadata"))):
        pair = [m("same", "neap", figure, scale=n, change=change)
                for n in (scale, quarter(scale))]
        out.append(_verdict("" if i else "same change, database 4 × larger",
                            f"≤ 1.2 × the {words}", _ratio(*pair), 1.2, x))
    out += _scan(r)
    out.append(_verdict("restore all, on the disk", "≤ 0.4 × restic",
                        _ratio(m("restore", "neap"), m("restore", "restic")),
                        0.4, x))
    out.append(_verdict("PostgreSQL on a mounted backup", "≤ 3 s",
                        m("boot", "neap"), 3, s))
    out.append(_verdict("", "≤ 64 MB of scratch",
                        m("boot", "neap", "scratch"), 64e6, mb))
    most = r.values("rss", peer="neap")
    out.append(_verdict("peak memory, of any run", "≤ 128 MiB",
                        max(most) if most else None, 128 * MIB,
                        lambda v: f"{v / MIB:.0f} MiB"))
    return out


def _scan(r):
    ours, out = scan_rate(r, "pgbench"), []
    for i, peer in enumerate(("fio, same files", "fio, device")):
        limit = r.median("rate", data="pgbench", line="scan", peer=peer,
                         scale=r.about["scale"])
        share = _ratio(ours, limit)
        word = "?" if share is None else \
            "met" if share >= 0.8 else "**missed**"
        out.append(Verdict("" if i else "full scan, nothing changed",
                           f"≥ 0.8 × {peer}",
                           "not measured" if share is None else
                           f"{share:.2f} ×", word))
    return out
