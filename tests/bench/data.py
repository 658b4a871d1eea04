# SPDX-License-Identifier: Apache-2.0
"""The two kinds of data, and how each changes."""

import concurrent.futures
import itertools
import os
import random
import signal
import subprocess

from ground import as_postgres, sh


# pgbench's own transaction, on the first BRANCHES of the scale.
FIRST_BRANCHES = r"""
\set aid random(1, 100000 * :branches)
\set bid random(1, :branches)
\set tid random(1, 10 * :branches)
\set delta random(-5000, 5000)
begin;
update pgbench_accounts set abalance = abalance + :delta where aid = :aid;
select abalance from pgbench_accounts where aid = :aid;
update pgbench_tellers set tbalance = tbalance + :delta where tid = :tid;
update pgbench_branches set bbalance = bbalance + :delta where bid = :bid;
insert into pgbench_history (tid, bid, aid, delta, mtime)
    values (:tid, :bid, :aid, :delta, current_timestamp);
end;
"""


class Pgbench:
    """27 MB a scale unit, nearly half of it WAL; rows that are nearly alike,
    so it compresses 20-fold."""

    name = "pgbench"
    about = ("pgbench's tables, freshly made, and WAL; the change is its "
             "default transactions: three updates and an insert each")

    def __init__(self, server, scale, seed=1):
        self.server, self.scale, self.seed = server, scale, seed

    @staticmethod
    def bytes(scale):
        return scale * 28_000_000

    def _pgbench(self, *args):
        sh(*as_postgres("PGOPTIONS=-c synchronous_commit=off",
                        f"{self.server.bin}/pgbench", "-h", self.server.run,
                        "-U", "postgres", *args, "postgres"))

    def create(self):
        self._pgbench("-q", "-i", "-s", str(self.scale))
        self.server.checkpoint()

    def change(self, count, *how):
        """COUNT transactions, each three updates and an insert."""
        self.seed += 1
        self._pgbench("-n", "-c", "4", "-t", str(max(1, count // 4)),
                      f"--random-seed={self.seed}", *how)
        self.server.checkpoint()

    def change_first(self, count, branches):
        """The same on the first BRANCHES only, so that it changes as much in
        a database of any size."""
        path = f"{self.server.run}/first.sql"
        with open(path, "w") as f:
            f.write(FIRST_BRANCHES)
        self.change(count, "-f", path, "-D", f"branches={branches}")


SCHEMA = """
create table documents (id bigint primary key, author uuid, title text,
    body text);
create table events (id bigint primary key, key uuid not null,
    at timestamptz, doc jsonb);
create table blobs (id bigint primary key, name uuid, data bytea);
alter table blobs alter data set storage external;
"""
SYLLABLES = [a + b for a in "bcdfghklmnprstvw" for b in
             ("a", "e", "i", "o", "u", "an", "er", "in", "or", "ea")]


class Words:
    """Text of the entropy of prose: 20,000 words, their frequency as Zipf's
    law has it. zstd -3 makes it about 3 times smaller."""

    def __init__(self, seed):
        r = random.Random(7)
        self.words = list({"".join(r.choices(SYLLABLES, k=r.choice((1, 2, 2,
                          3, 3, 4)))) for _ in range(28000)})[:20000]
        self.words.sort()
        r.shuffle(self.words)
        self.weights = list(itertools.accumulate(
            1 / (n + 2.7) for n in range(len(self.words))))
        self.random = random.Random(seed)

    def text(self, count):
        return " ".join(self.random.choices(
            self.words, cum_weights=self.weights, k=count))

    def uuid(self):
        return f"{self.random.getrandbits(128):032x}"


def document(w, n):
    """About 2.6 kB; half of them are long enough for TOAST."""
    k = int(w.random.lognormvariate(5.6, 0.8)) + 20
    return f"{n}\t{w.uuid()}\t{w.text(6)}\t{w.text(min(k, 4000))}\n"


KINDS = ("order.created", "order.paid", "order.shipped", "user.login",
         "user.changed", "stock.counted", "mail.sent")


def event(w, n):
    """About 420 bytes of JSON."""
    r = w.random
    return (f'{n}\t{w.uuid()}\t2026-{n % 12 + 1:02}-{n % 28 + 1:02} '
            f'{n % 24:02}:{r.randrange(60):02}:{r.randrange(60):02}\t'
            f'{{"kind": "{r.choice(KINDS)}", "user": {r.randrange(10 ** 6)}, '
            f'"session": "{w.uuid()}", "amount": {r.randrange(10 ** 7) / 100}, '
            f'"address": "10.{r.randrange(256)}.{r.randrange(256)}.'
            f'{r.randrange(256)}", "tags": ["{w.text(1)}", "{w.text(1)}"], '
            f'"items": [{{"sku": "{r.randrange(10 ** 5):05}", "count": '
            f'{r.randrange(9) + 1}}}], "note": "{w.text(12)}"}}\n')


def blob(w, n):
    """8 to 64 KiB that no compressor makes smaller, as JPEG or gzip are."""
    size = w.random.randrange(8 << 10, 64 << 10)
    return f"{n}\t{w.uuid()}\t\\\\x{w.random.randbytes(size).hex()}\n"


TABLES = {"documents": (document, 2600), "events": (event, 420),
          "blobs": (blob, 36 << 10)}


def fill(psql, table, first, count, seed):
    """COUNT rows into TABLE by COPY."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    row, words = TABLES[table][0], Words(seed)
    copy = subprocess.Popen(psql + ["-c", f"copy {table} from stdin"],
                            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE)
    try:
        for n in range(first, first + count):
            copy.stdin.write(row(words, n).encode())
    except BrokenPipeError:
        pass
    _, said = copy.communicate()
    if copy.returncode:
        raise RuntimeError(f"copy {table}: {said.decode()[-400:]}")


class Mixed:
    """Text, JSON documents, UUIDs and compressed blobs, a third each of text,
    JSON and blobs; 10 MB a scale unit."""

    name = "mixed"
    about = ("a third prose-like documents, a third JSON events with UUID "
             "keys, a third blobs that do not compress; the change is events "
             "and documents added and edited at random, blobs added and "
             "deleted")

    def __init__(self, server, scale, seed=1):
        self.server, self.scale, self.seed = server, scale, seed
        self.rows = {}

    @staticmethod
    def bytes(scale):
        return scale * 18_000_000

    def _psql(self):
        p = self.server.psql()
        return p[:-1] + ["-d", p[-1]]

    def create(self):
        self.server.sql(SCHEMA)
        third = self.scale * 10_000_000 // 3
        with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
            jobs = []
            for i, (table, (_, size)) in enumerate(TABLES.items()):
                self.rows[table] = max(1000, third // size)
                jobs.append(pool.submit(fill, self._psql(), table, 0,
                                        self.rows[table], self.seed + i))
            for j in jobs:
                j.result()
        self.server.sql("create index on events (key)")
        self.server.sql("create index on events (at)")
        self.server.sql("vacuum (analyze, freeze)")
        self.server.checkpoint()

    def _add(self, table, count):
        fill(self._psql(), table, self.rows[table], count, self.seed)
        self.rows[table] += count

    def _some(self, table, count):
        r = random.Random(self.seed)
        return ",".join(str(r.randrange(self.rows[table]))
                        for _ in range(count))

    def change(self, count):
        """COUNT/2 events added and as many changed at random, COUNT/20
        documents added and half as many edited, COUNT/50 blobs added and half
        as many deleted."""
        self.seed += 100
        self.server.sql(
            "update events set doc = doc || '{\"state\": \"done\"}' "
            f"where id in ({self._some('events', max(1, count // 2))})")
        self.server.sql(
            "update documents set body = body || ' ' || title "
            f"where id in ({self._some('documents', max(1, count // 40))})")
        self.server.sql("delete from blobs where id in "
                        f"({self._some('blobs', max(1, count // 100))})")
        self._add("events", max(1, count // 2))
        self._add("documents", max(1, count // 20))
        self._add("blobs", max(1, count // 50))
        self.server.checkpoint()


KINDS_OF_DATA = {"pgbench": Pgbench, "mixed": Mixed}
