# SPDX-License-Identifier: Apache-2.0
"""The thin tracker's reader against thin_delta, on a pool's metadata."""

import json
import os
import random
import re
import shutil
import subprocess

from measure import Failed, timed

MAPPINGS = 10_000_000
CHANGES = 1000
RUN = 8  # blocks in a row, as in a pool that several volumes filled
NEW = 1 << 25  # data blocks of the changed ones


def _device(f, number, data):
    f.write(f'<device dev_id="{number}" mapped_blocks="{len(data)}" '
            'transaction="0" creation_time="0" snap_time="0">\n')
    start = 0
    for i in range(1, len(data) + 1):
        if i == len(data) or data[i] != data[i - 1] + 1:
            f.write(f'<range_mapping origin_begin="{start}" '
                    f'data_begin="{data[start]}" length="{i - start}" '
                    'time="1"/>\n')
            start = i
    f.write("</device>\n")


def _restored(base):
    """By thin_restore: two devices, and no node is in both."""
    rng = random.Random(1)
    xml, path = os.path.join(base, "thin.xml"), os.path.join(base, "restored")
    data, at = [], 1
    for i in range(MAPPINGS):
        at += 4 if i % RUN == 0 else 1
        data.append(at)
    with open(xml, "w") as f:
        f.write('<superblock uuid="" time="5" transaction="42" version="2" '
                f'data_block_size="128" nr_data_blocks="{1 << 26}">\n')
        _device(f, 1, data)
        for i, at in enumerate(rng.sample(range(MAPPINGS), CHANGES)):
            data[at] = NEW + 2 * i
        _device(f, 2, data)
        f.write("</superblock>\n")
    with open(path, "wb") as f:
        f.truncate(1 << 30)
    subprocess.run(["thin_restore", "-i", xml, "-o", path], check=True,
                   stdout=subprocess.DEVNULL)
    os.unlink(xml)
    return path


def _shared(base, build):
    """As the kernel leaves a snapshot: what has not changed is shared."""
    path = os.path.join(base, "shared")
    subprocess.run([f"{build}/thin-make", path, str(MAPPINGS), str(CHANGES)],
                   check=True)
    return path


def _blocks(text):
    """Blocks that thin_delta says differ."""
    return sum(int(n) for kind, n in
               re.findall(r'<(\w+) begin="\d+" length="(\d+)"', text)
               if kind != "same")


def run(results, base, build, runs):
    if not shutil.which("thin_restore"):
        print("bench: thin_restore is not installed: no thin pools", flush=True)
        return
    for kind, path in (("shared", _shared(base, build)),
                       ("restored", _restored(base))):
        tools = {"neap": [f"{build}/thin-compare", path, "1", "2"],
                 "thin_delta": ["thin_delta", "--thin1", "1", "--thin2", "2",
                                path]}
        if kind == "shared":  # it has no space maps, which thin_delta wants
            del tools["thin_delta"]
        for n in range(1, runs + 1):
            for peer, argv in tools.items():
                row = {"data": kind, "line": "thin", "peer": peer, "run": n,
                       "mappings": MAPPINGS, "changes": CHANGES}
                try:
                    row.update(timed(argv, base))
                    with open(os.path.join(base, "out")) as f:
                        said = f.read()
                    row["blocks"] = json.loads(said)["blocks"] \
                        if peer == "neap" else _blocks(said)
                except Failed as e:
                    row["error"] = str(e)
                results.add(row)
                print(f"bench: thin pool, {kind}: {peer}: {row}", flush=True)
