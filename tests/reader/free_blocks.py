#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an ext4 or XFS does not use, by e2fsprogs or xfsprogs: an independent
second to kmod-free/snap/used.c.

    free_blocks.py DEVICE                 each range of bytes, whole blocks of 4096
    free_blocks.py DEVICE --used RANGES   RANGES (lines "FROM LENGTH", of what is
                                          said to be used) leave nothing out that
                                          is used, and little in that is not
    free_blocks.py DEVICE --image IMAGE   IMAGE is DEVICE, but for what is free,
                                          which is zeros, though some of it was not
"""
import os
import re
import subprocess
import sys

BLOCK = 4096


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True).stdout


def ext4(device):
    text = run("dumpe2fs", device)
    size = int(re.search(r"^Block size: *(\d+)", text, re.M)[1])
    for line in re.findall(r"^  Free blocks: (.*)", text, re.M):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", line):
            yield int(first) * size, (int(last or first) + 1) * size


def xfs(device):
    text = run("xfs_db", "-r", "-f", "-c", "sb 0",
               "-c", "p blocksize agblocks", "-c", "freesp -d", device)
    size = int(re.search(r"^blocksize = (\d+)", text, re.M)[1])
    group = int(re.search(r"^agblocks = (\d+)", text, re.M)[1])
    # The histogram behind them has five columns.
    for ag, at, n in re.findall(r"^ *(\d+) +(\d+) +(\d+)$", text, re.M):
        start = (int(ag) * group + int(at)) * size
        yield start, start + int(n) * size


def free(device):
    """Sorted, joined, in whole blocks."""
    with open(device, "rb") as f:
        kind = xfs if f.read(4) == b"XFSB" else ext4
    joined = []
    for a, b in sorted(kind(device)):
        if joined and joined[-1][1] >= a:
            joined[-1][1] = max(b, joined[-1][1])
        else:
            joined.append([a, b])
    whole = ((-(-a // BLOCK) * BLOCK, b // BLOCK * BLOCK) for a, b in joined)
    return [(a, b) for a, b in whole if a < b]


def blocks(ranges):
    return {n for a, b in ranges for n in range(a // BLOCK, b // BLOCK)}


def compare_used(device, path):
    with open(device, "rb") as f:
        size = f.seek(0, os.SEEK_END)
    used = set()
    for line in open(path):
        a, n = map(int, line.split())
        used |= blocks([(a, -(-(a + n) // BLOCK) * BLOCK)])
    idle = blocks(free(device))
    lost = set(range(-(-size // BLOCK))) - used - idle
    kept = used & idle
    print(f"{len(idle)} blocks are free; of those in use {len(lost)} are left "
          f"out, of the free ones {len(kept)} are not")
    # xfs_db counts as free what an allocation group keeps for its own trees.
    return not lost and len(kept) <= 16 + len(idle) // 100


def compare_image(device, image):
    wrong = zeros = stale = 0
    idle = blocks(free(device))
    with open(device, "rb") as f, open(image, "rb") as g:
        if f.seek(0, os.SEEK_END) != g.seek(0, os.SEEK_END):
            print("they are not of one size")
            return False
        f.seek(0)
        g.seek(0)
        n = 0
        while True:
            a, b = f.read(BLOCK), g.read(BLOCK)
            if not a:
                break
            if n in idle and not any(b):
                zeros += 1
                stale += any(a)
            elif a != b:
                wrong += 1
                if wrong < 5:
                    print(f"block {n}", "free" if n in idle else "in use")
            n += 1
    print(f"{wrong} blocks differ; of {len(idle)} free ones {zeros} are zeros, "
          f"{stale} of them were not on the device")
    return wrong == 0 and stale > 0 and zeros >= len(idle) * 98 // 100


def main(device, what=None, other=None):
    if what == "--used":
        return compare_used(device, other)
    if what == "--image":
        return compare_image(device, other)
    for a, b in free(device):
        print(a, b)
    return True


sys.exit(0 if main(*sys.argv[1:]) else 1)
