# SPDX-License-Identifier: Apache-2.0
"""The raw figures: one row a measurement, kept in a file from the first on."""

import json
import os
import statistics
import time


class Results:
    """{"about": what, where and with which programs; "rows": [...]}.

    A row has data, scale, change, line, peer, run, and either "error" or the
    figures wall, cpu, rss, read, stored and what else the peer told.
    """

    def __init__(self, path):
        self.path = path
        self.about = {}
        self.rows = []

    @classmethod
    def load(cls, path):
        r = cls(path)
        with open(path) as f:
            kept = json.load(f)
        r.about, r.rows = kept["about"], kept["rows"]
        return r

    def save(self):
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path + ".new", "w") as f:
            json.dump({"about": self.about, "rows": self.rows}, f, indent=1)
            f.write("\n")
        os.replace(self.path + ".new", self.path)

    def add(self, row):
        row["load"] = round(os.getloadavg()[0], 2)
        row["at"] = time.strftime("%H:%M:%S")
        self.rows.append(row)
        self.save()

    def select(self, **want):
        return [r for r in self.rows
                if all(r.get(k) == v for k, v in want.items())]

    def values(self, figure, **want):
        return [r[figure] for r in self.select(**want)
                if r.get(figure) is not None]

    def median(self, figure, **want):
        """The median over the runs; None where nothing was measured."""
        v = self.values(figure, **want)
        return statistics.median(v) if v else None

    def error(self, **want):
        """What the last failure said, where no run went well."""
        rows = self.select(**want)
        if not rows or any("error" not in r for r in rows):
            return None
        return rows[-1]["error"]
