# SPDX-License-Identifier: Apache-2.0
"""One measured command: seconds, CPU, memory, bytes read from the disk."""

import os
import signal
import subprocess
import threading
import time

LIMIT = 3600  # seconds; what takes longer is stopped and called failed
MIB = 1 << 20


class Failed(Exception):
    """A command failed; the text is the end of what it said."""


def drop_caches():
    subprocess.run(["sync"], check=True)
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")


def _children(pid):
    """Pids of PID and all below it. A thread may have forked, so ask each."""
    found, todo = [], [pid]
    while todo:
        p = todo.pop()
        found.append(p)
        try:
            for task in os.listdir(f"/proc/{p}/task"):
                with open(f"/proc/{p}/task/{task}/children") as f:
                    todo += map(int, f.read().split())
        except OSError:  # it ended meanwhile
            pass
    return found


def _memory(pid):
    """(resident now, most so far) of one process, in bytes."""
    now = most = 0
    try:
        with open(f"/proc/{pid}/status") as f:
            for line in f:
                if line.startswith("VmRSS:"):
                    now = int(line.split()[1]) << 10
                elif line.startswith("VmHWM:"):
                    most = int(line.split()[1]) << 10
    except (OSError, ProcessLookupError):
        pass
    return now, most


class _Watch(threading.Thread):
    """Looks every 20 ms at the memory of a process and all below it.

    Not ru_maxrss: Linux lets it start from what the parent (this Python) had
    before exec, and it is the largest process only, not their sum. Pages that
    two processes share are counted twice.
    """

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid = pid
        self.peak = 0
        self.late = False
        self.done = threading.Event()

    def run(self):
        start = time.monotonic()
        while not self.done.is_set():
            seen = [_memory(p) for p in _children(self.pid)]
            total = sum(now for now, _ in seen)
            self.peak = max([self.peak, total] + [most for _, most in seen])
            if time.monotonic() - start > LIMIT:
                self.late = True
                os.killpg(self.pid, signal.SIGKILL)
                return
            self.done.wait(0.02)


def _wait(child):
    """Status and usage of a child; if we are interrupted it ends with us."""
    try:
        _, status, usage = os.wait4(child.pid, 0)
    except BaseException:
        os.killpg(child.pid, signal.SIGTERM)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        raise
    child.returncode = os.waitstatus_to_exitcode(status)
    return usage


def _last_words(path, count=300):
    with open(path, errors="replace") as f:
        return " ".join(f.read().split())[-count:]


def timed(argv, scratch, cwd=None, env=None, cold=True):
    """Run ARGV and return its figures; its output lies in SCRATCH/out.

    From a cold cache, in a session of its own so that all of it can be ended.
    CPU and bytes read are those of the command and of every process below it
    that was waited for; the database server's own are not among them.
    """
    if cold:
        drop_caches()
    out, err = os.path.join(scratch, "out"), os.path.join(scratch, "err")
    with open(out, "wb") as fo, open(err, "wb") as fe:
        start = time.perf_counter()
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=fo, stderr=fe, cwd=cwd,
            env={**os.environ, **(env or {})}, start_new_session=True)
        watch = _Watch(child.pid)
        watch.start()
        usage = _wait(child)
        wall = time.perf_counter() - start
    watch.done.set()
    watch.join()
    if watch.late:
        raise Failed(f"stopped after {LIMIT} s")
    if child.returncode:
        said = _last_words(err) or _last_words(out)
        raise Failed(f"exit status {child.returncode}: {said}")
    return {
        "wall": round(wall, 4),
        "cpu": round(usage.ru_utime + usage.ru_stime, 4),
        "rss": watch.peak,
        "read": usage.ru_inblock * 512,
    }


def folder_bytes(path, leave_out=()):
    """Sum of the sizes of the files below PATH, each hard link once."""
    total, seen = 0, set()
    for folder, names, files in os.walk(path):
        names[:] = [n for n in names
                    if os.path.join(folder, n) not in leave_out]
        for name in files:
            st = os.lstat(os.path.join(folder, name))
            if (st.st_dev, st.st_ino) not in seen:
                seen.add((st.st_dev, st.st_ino))
                total += st.st_size
    return total
