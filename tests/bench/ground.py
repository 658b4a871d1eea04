# SPDX-License-Identifier: Apache-2.0
"""Where it is measured: one temporary folder with a btrfs in a file and a
PostgreSQL server of our own, and all of it gone at the end."""

import contextlib
import glob
import os
import shutil
import subprocess
import tempfile
import time

GB = 10 ** 9


def sh(*argv, **kw):
    """Run a command that is not measured; its text on standard output."""
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True,
                       text=True, start_new_session=True, **kw)
    if r.returncode:
        raise RuntimeError(f"{' '.join(argv)[:200]}: {r.stderr.strip()[-400:]}")
    return r.stdout


def as_postgres(*argv):
    return ["setpriv", "--reuid", "postgres", "--regid", "postgres",
            "--init-groups", "env", "-C", "/", "HOME=/", *argv]


def pg_bin():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"),
                   key=lambda p: int(p.split("/")[4]))
    if not found:
        raise SystemExit("bench: no PostgreSQL below /usr/lib/postgresql")
    return os.path.dirname(found[-1])


def umount(path):
    """What was killed may hold it for a moment longer."""
    for left in range(20, -1, -1):
        try:
            return sh("umount", path)
        except RuntimeError:
            if not left:
                raise
            time.sleep(0.25)


class Server:
    """A PostgreSQL cluster in DIR, its socket elsewhere."""

    def __init__(self, folder, run, log, wal_mb):
        self.data, self.run, self.log = folder, run, log
        self.bin = pg_bin()
        os.makedirs(run, exist_ok=True)
        shutil.chown(run, "postgres", "postgres")
        sh(*as_postgres(f"{self.bin}/initdb", "-D", folder, "-U", "postgres",
                        "-A", "peer", "-N", "-k"))
        # Only what is asked for changes the data: no vacuum, no checkpoint by
        # the clock between two measurements, no WAL file removed.
        with open(f"{folder}/postgresql.conf", "a") as f:
            f.write(f"listen_addresses = ''\n"
                    f"unix_socket_directories = '{run}'\n"
                    f"shared_buffers = 1GB\nmax_wal_size = {wal_mb}MB\n"
                    f"min_wal_size = {wal_mb}MB\n"
                    f"checkpoint_timeout = 1h\nfull_page_writes = on\n"
                    f"autovacuum = off\n")

    def control(self, *args):
        # The server keeps pg_ctl's output open: never a pipe of ours.
        subprocess.run(
            as_postgres(f"{self.bin}/pg_ctl", "-D", self.data, "-w", "-s",
                        "-t", "600", *args), check=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True)

    def start(self):
        self.control("-l", self.log, "start")

    def stop(self):
        if os.path.exists(f"{self.data}/postmaster.pid"):
            self.control("-m", "immediate", "stop")

    def psql(self, *more):
        return as_postgres(f"{self.bin}/psql", "-XAtq", "-v", "ON_ERROR_STOP=1",
                           "-h", self.run, "-U", "postgres", *more, "postgres")

    def sql(self, text):
        return sh(*self.psql("-c", text)).strip()

    def checkpoint(self):
        self.sql("checkpoint")


class Ground:
    """The file system with the database, and one frozen view of it at a path
    that never changes, as tools that look up files by path need."""

    def __init__(self, tmp, stack, image_bytes):
        self.tmp = tmp
        self.fs, self.frozen = f"{tmp}/fs", f"{tmp}/frozen"
        self.db = f"{self.fs}/db"
        os.makedirs(self.fs)
        os.makedirs(self.frozen)
        image = f"{tmp}/fs.img"
        with open(image, "wb") as f:
            f.truncate(image_bytes)
        sh("mkfs.btrfs", "-q", image)
        # Direct: as a disk would, it caches nothing a second time and copies
        # nothing.
        self.device = sh("losetup", "--find", "--show", "--direct-io=on",
                         image).strip()
        stack.callback(sh, "losetup", "-d", self.device)
        sh("mount", "-o", "noatime", self.device, self.fs)
        stack.callback(umount, self.fs)
        stack.callback(self.thaw)
        sh("btrfs", "subvolume", "create", self.db)

    def freeze(self, name):
        """A read-only snapshot NAME of the database, seen at self.frozen."""
        sh("btrfs", "subvolume", "snapshot", "-r", self.db, self.path(name))
        self.thaw()
        sh("mount", "--bind", self.path(name), self.frozen)

    def thaw(self):
        if os.path.ismount(self.frozen):
            umount(self.frozen)

    def path(self, name):
        return f"{self.fs}/{name}"

    def drop(self, name):
        if os.path.exists(self.path(name)):
            sh("btrfs", "subvolume", "delete", self.path(name))

    def empty(self, name):
        """A fresh folder NAME beside the database, to restore into."""
        self.remove(name)
        os.makedirs(self.path(name))
        return self.path(name)

    def remove(self, name):
        path = self.path(name)
        for sub in glob.glob(f"{path}/*"):
            if os.path.isdir(sub) and os.stat(sub).st_ino == 256:
                sh("btrfs", "subvolume", "delete", sub)
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def temporary_folder(base):
    tmp = tempfile.mkdtemp(prefix="neap-bench.", dir=base)
    os.chmod(tmp, 0o755)
    try:
        yield tmp
    finally:
        sh("rm", "-rf", "--one-file-system", tmp)


@contextlib.contextmanager
def ground(base, name, image_bytes, wal_mb):
    """(Ground, Server) for one database; whatever happens, nothing is left."""
    tmp = f"{base}/{name}"
    os.makedirs(tmp)
    os.chmod(tmp, 0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(sh, "rm", "-rf", "--one-file-system", tmp)
        here = Ground(tmp, stack, image_bytes)
        os.makedirs(f"{here.db}/pg")
        shutil.chown(f"{here.db}/pg", "postgres", "postgres")
        server = Server(f"{here.db}/pg/data", f"{tmp}/run", f"{tmp}/pg.log",
                        wal_mb)
        open(server.log, "w").close()
        shutil.chown(server.log, "postgres", "postgres")
        stack.callback(server.stop)
        server.start()
        yield here, server
