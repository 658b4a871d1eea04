# SPDX-License-Identifier: Apache-2.0
"""neap and the programs that it is measured against, each behind the same few
operations. A new peer is one more class in PEERS.

    reset()                  an empty repository; not measured
    backup(point, parent)    back up the frozen view, or the live server
    restore(target)          everything of the newest backup, below TARGET
    stored()                 bytes in the repository
Each measured operation returns the figures of measure.timed().
"""

import json
import os
import shutil
import subprocess

from ground import as_postgres, sh
from measure import Failed, folder_bytes, timed


class Peer:
    name = ""       # in results.json and PEERS
    title = ""      # in the document
    settings = ""   # how it is run, for the document
    package = ""    # Debian's
    program = ""
    live = False    # writes to the server that it backs up
    cold = True     # measured with nothing in the caches
    env = {}

    def __init__(self, here, server, base):
        self.here, self.server = here, server
        self.dir = f"{base}/{self.name}"

    @classmethod
    def version(cls):
        return sh(cls.program, "--version").splitlines()[0].strip(" *")

    @property
    def repo(self):
        return f"{self.dir}/repo"

    def reset(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        self.init()

    def init(self):
        os.makedirs(self.repo)

    def timed(self, *argv, **kw):
        return timed(list(argv), self.dir, env=self.env, cold=self.cold, **kw)

    def pipe(self, command):
        return self.timed("bash", "-o", "pipefail", "-c", command)

    def sh(self, *argv):
        return sh(*argv, env={**os.environ, **self.env})

    def stored(self):
        return folder_bytes(self.repo)


class Neap(Peer):
    name = "neap"
    title = "neap"
    settings = "zstd:3, AES-256-GCM, 2 threads; backs up the running server"
    build = ""      # set by the main program

    @classmethod
    def version(cls):
        return sh(f"{cls.build}/neap", "--version").strip()

    def init(self):
        self.config = f"{self.dir}/neap.yaml"
        with open(self.config, "w") as f:
            f.write(f"state_dir: {self.dir}/state\n"
                    f"repository: {{url: {self.repo}, "
                    f"host_key: {self.dir}/host.key, "
                    f"recovery_key: {self.dir}/recovery.key}}\n"
                    f"jobs:\n  bank:\n    engine: postgresql\n"
                    f"    connection: {{socket: {self.server.run}, "
                    f"user: postgres}}\n    run_as: postgres\n")
        self.sh(f"{self.build}/neap", "-q", "-c", self.config, "init")

    def neap(self, *args):
        r = self.timed(f"{self.build}/neap", "-q", "-c", self.config,
                       "--json", *args)
        with open(f"{self.dir}/out") as f:
            said = json.load(f)
        for key in ("read_bytes", "changed_bytes", "hold_ms", "tracker",
                    "sampled_blocks"):
            r[key] = said.get(key)
        return r

    def backup(self, point, parent):
        return self.neap("backup", "bank")

    def full_scan(self):
        return self.neap("backup", "bank", "--full-scan")

    def metadata(self):
        """All but the packs."""
        return folder_bytes(self.repo, (f"{self.repo}/packs",))

    def view(self, *args):
        return [f"{self.build}/neap-restore", "-q", "-c", self.config, *args]

    def restore(self, target):
        return self.timed(*self.view("extract", "bank/latest", target))


class BtrfsSend(Peer):
    name = "btrfs"
    title = "btrfs send | zstd"
    settings = "`btrfs send [-p PARENT] | zstd -3 -T2`"
    package = "btrfs-progs"
    program = "btrfs"

    def backup(self, point, parent):
        if not parent:
            self.sequence = 0
        if not parent or point != self.point:
            self.sequence += 1
        self.point = point
        older = f"-p '{self.here.path(parent)}'" if parent else ""
        return self.pipe(
            f"btrfs send -q {older} '{self.here.path(point)}' | zstd -q -f -3 -T2 "
            f"-o '{self.repo}/{self.sequence:03}.zst'")

    def restore(self, target):
        return self.pipe(f"for f in '{self.repo}'/*.zst; do zstd -qdc $f | "
                         f"btrfs receive -q '{target}' || exit; done")


class Tar(Peer):
    name = "tar"
    title = "tar | zstd"
    settings = "`tar -c | zstd -3 -T2`; the next backup is the whole again"
    package = "tar zstd"
    program = "tar"

    def backup(self, point, parent):
        self.last = f"{self.repo}/{len(os.listdir(self.repo)):03}.zst"
        return self.pipe(f"tar -C '{self.here.frozen}' -cf - . | "
                         f"zstd -q -3 -T2 -o '{self.last}'")

    def restore(self, target):
        return self.pipe(f"zstd -qdc '{self.last}' | tar -C '{target}' -xf -")


class Zstd(Tar):
    """Only for its version."""
    program = "zstd"


class Restic(Peer):
    name = "restic"
    title = "restic"
    settings = "its defaults: encrypted, compression auto"
    package = "restic"
    program = "restic"

    @classmethod
    def version(cls):
        return sh("restic", "version").split(" compiled")[0].strip()

    def init(self):
        self.env = {"RESTIC_PASSWORD": "bench", "RESTIC_REPOSITORY": self.repo,
                    "RESTIC_CACHE_DIR": f"{self.dir}/cache",
                    "RESTIC_PROGRESS_FPS": "0.1"}
        self.sh("restic", "init", "-q", "--repository-version", "2")

    def backup(self, point, parent):
        return self.timed("restic", "backup", "-q", self.here.frozen)

    def restore(self, target):
        return self.timed("restic", "restore", "-q", "latest", "--target",
                          target)


class Borg(Peer):
    name = "borg"
    title = "borg"
    settings = "encryption repokey, compression zstd,3"
    package = "borgbackup"
    program = "borg"

    def init(self):
        self.env = {"BORG_PASSPHRASE": "bench", "BORG_REPO": self.repo,
                    "BORG_BASE_DIR": f"{self.dir}/base"}
        os.makedirs(f"{self.dir}/base")
        self.count = 0
        self.sh("borg", "init", "-e", "repokey")

    def backup(self, point, parent):
        self.count += 1
        return self.timed("borg", "create", "--compression", "zstd,3",
                          f"::{self.count}", self.here.frozen)

    def restore(self, target):
        return self.timed("borg", "extract", f"::{self.count}", cwd=target)


class Casync(Peer):
    name = "casync"
    title = "casync"
    settings = ("its defaults (zstd, not encrypted) but for the subvolume "
                "flags, with which it could not extract")
    package = "casync"
    program = "casync"

    def init(self):
        os.makedirs(self.repo)
        self.count = 0

    def backup(self, point, parent):
        self.count += 1
        # With subvolumes noted it cannot extract: "File exists".
        return self.timed(
            "casync", "make", "--without=subvolume",
            "--without=subvolume-ro", f"--store={self.repo}/store.castr",
            f"{self.repo}/{self.count:03}.caidx", self.here.frozen)

    def restore(self, target):
        return self.timed(
            "casync", "extract", f"--store={self.repo}/store.castr",
            f"{self.repo}/{self.count:03}.caidx", f"{target}/all")


class PgBackRest(Peer):
    name = "pgbackrest"
    title = "pgBackRest"
    settings = ("compress-type zst level 3, process-max 2, start-fast, not "
                "encrypted (its default); full, then incremental; backs up "
                "the running server; WAL is not archived, so neither time nor "
                "bytes of WAL are in its figures")
    package = "pgbackrest"
    program = "pgbackrest"
    live = True

    @classmethod
    def version(cls):
        return sh("pgbackrest", "version").strip()

    def init(self):
        os.makedirs(self.repo)
        self.config = f"{self.dir}/pgbackrest.conf"
        with open(self.config, "w") as f:
            f.write(f"[global]\nrepo1-path={self.repo}\n"
                    f"log-path={self.dir}\nlock-path={self.dir}/lock\n"
                    f"spool-path={self.dir}/spool\nlog-level-file=off\n"
                    f"log-level-console=warn\ncompress-type=zst\n"
                    f"compress-level=3\nprocess-max=2\nstart-fast=y\n"
                    f"repo1-retention-full=99\n"
                    f"[bench]\npg1-path={self.server.data}\n"
                    f"pg1-socket-path={self.server.run}\n"
                    f"pg1-user=postgres\n")
        sh("chown", "-R", "postgres:postgres", self.dir)
        sh(*self.command("stanza-create"))

    def command(self, *args):
        return as_postgres("pgbackrest", f"--config={self.config}",
                           "--stanza=bench", *args)

    def backup(self, point, parent):
        kind = "incr" if parent else "full"
        return self.timed(*self.command(
            "backup", f"--type={kind}", "--no-archive-check"))

    def restore(self, target):
        shutil.chown(target, "postgres", "postgres")
        os.chmod(target, 0o700)
        return self.timed(*self.command(
            "restore", f"--pg1-path={target}", "--type=none"))


PEERS = {p.name: p for p in (Neap, BtrfsSend, Restic, Borg, Tar, Casync,
                             PgBackRest)}


def _largest(folder, limit):
    found = []
    for top, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(top, name)
            found.append((os.path.getsize(path),
                          os.path.relpath(path, folder)))
    text = ""
    for size, path in sorted(found, reverse=True):
        if size < 1 << 20 or len(text) + len(path) > limit:
            break
        text += (":" if text else "") + path
    return text


def fio(here, size, scratch, through_fs):
    """Bytes a second of the fastest reading: 1 MiB, depth 32, O_DIRECT.

    Either of the files that neap reads too, the largest first, as many as fio
    takes (4096 characters of names), or of SIZE bytes of the device below.
    """
    if through_fs:
        names = _largest(here.frozen, 4000)
        what = [f"--filename={names}", "--file_service_type=sequential"]
    else:
        what = [f"--filename={here.device}", f"--size={size}"]
    r = timed(["fio", "--name=read", *what, "--rw=read", "--bs=1M",
               "--iodepth=32", "--direct=1", "--ioengine=io_uring",
               "--readonly", "--output-format=json"], scratch,
              cwd=here.frozen)
    with open(f"{scratch}/out") as f:
        text = f.read()
    job = json.loads(text[text.index("{"):])["jobs"][0]["read"]
    if not job["io_bytes"]:
        raise Failed("fio read nothing")
    r["rate"] = job["bw_bytes"]
    r["read"] = job["io_bytes"]
    return r


def dd(target, size, scratch):
    """What the file system takes at most: so many zeros, written and synced."""
    return timed(["dd", "if=/dev/zero", f"of={target}/zeros", "bs=1M",
                  f"count={size >> 20}", "conv=fsync"], scratch)


def installed(peer):
    if peer is Neap:
        return True
    return shutil.which(peer.program) is not None


def install(names):
    """The Debian packages that these peers need and that are not there."""
    want = {"fio"} | {p for n in names for p in PEERS[n].package.split()}
    missing = [p for p in sorted(want) if subprocess.run(
        ["dpkg-query", "-W", "-f", "${Status}", p], capture_output=True,
        text=True).stdout != "install ok installed"]
    if not missing:
        return
    print(f"bench: installing {' '.join(missing)}", flush=True)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=env)
    for p in missing:  # one by one: what there is not, is one peer less
        subprocess.run(["apt-get", "install", "-y", "-qq",
                        "--no-install-recommends", p], env=env,
                       stdout=subprocess.DEVNULL)
