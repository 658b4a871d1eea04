#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The writable mount against a plain folder: random operations of every kind,
# each with the same result and error in both; cached pages are dropped before
# each comparison, so that what was written comes back from the scratch.
# tmp, out and err come from the library.
# shellcheck disable=SC2154
. "$(dirname "$0")/../lib.sh"
need_root
need_cmd fusermount3 python3
[ -e /dev/fuse ] || skip_all "no /dev/fuse here"
need_built neap
need_built neap-restore
neap_tmp
neap() { "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
restore() { "$NEAP_BUILD/neap-restore" -q -c "$tmp/neap.yaml" "$@"; }

data=$tmp/data
mkdir -p "$data/d0" "$data/d1" "$tmp/mnt"
on_exit sh -c "! findmnt -n $tmp/mnt || umount -l $tmp/mnt"
for i in 0 1 2 3 4 5; do
    head -c $((RANDOM * 20)) /dev/urandom >"$data/f$i"
    head -c $((RANDOM * 10)) /dev/urandom >"$data/d0/f$i"
    yes "$i" | head -c $((RANDOM * 10)) >"$data/d1/f$i"
done
ln "$data/f0" "$data/d0/f9"
head -c 50000000 /dev/urandom >"$tmp/data/large"
cat >"$tmp/neap.yaml" <<YAML
state_dir: $tmp/state
repository:
  url: $tmp/repo
  host_key: $tmp/host.key
  recovery_key: $tmp/recovery.key
jobs:
  docs: {engine: files, path: $data, snapshot: none}
YAML
status 0 neap init
status 0 neap backup docs

cat >"$tmp/random-ops.py" <<'PY'
import ctypes, mmap, os, random, sys

ours, plain, seed, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rnd = random.Random(seed)
libc = ctypes.CDLL(None, use_errno=True)
names = ['d%d/f%d' % (i, j) for i in range(3) for j in range(6)] + ['f%d' % i for i in range(6)]
KINDS = ['write'] * 6 + ['read'] * 2 + ['append', 'truncate', 'punch', 'zero', 'allocate',
    'rename', 'exchange', 'noreplace', 'unlink', 'link', 'mkdir', 'rmdir', 'mmap', 'create',
    'xattr', 'chmod', 'list', 'unlinked']

def check(rc):
    if rc:
        raise OSError(ctypes.get_errno(), 'call')

def fallocate(path, mode, off, length):
    fd = os.open(path, os.O_RDWR)
    try:
        check(libc.fallocate(fd, mode, ctypes.c_long(off), ctypes.c_long(length)))
    finally:
        os.close(fd)

def renameat2(a, b, flags):
    check(libc.renameat2(-100, a.encode(), -100, b.encode(), flags))

def do(kind, p, q, off, data, mode):
    length = len(data)
    if kind == 'write':
        with open(p, 'r+b', buffering=0) as f:
            f.seek(off)
            return f.write(data)
    if kind == 'append':
        with open(p, 'ab', buffering=0) as f:
            return f.write(data)
    if kind == 'read':
        with open(p, 'rb') as f:
            f.seek(off)
            return f.read(length)
    if kind == 'truncate': return os.truncate(p, off)
    if kind == 'punch': return fallocate(p, 3, off, length)
    if kind == 'zero': return fallocate(p, 0x10 | (mode & 1), off, length)
    if kind == 'allocate': return fallocate(p, mode & 1, off, length)
    if kind == 'rename': return os.rename(p, q)
    if kind == 'exchange': return renameat2(p, q, 2)
    if kind == 'noreplace': return renameat2(p, q, 1)
    if kind == 'unlink': return os.unlink(p)
    if kind == 'link': return os.link(p, q)
    if kind == 'mkdir': return os.mkdir(os.path.dirname(p))
    if kind == 'rmdir': return os.rmdir(os.path.dirname(p))
    if kind == 'mmap':
        with open(p, 'r+b') as f:
            size = os.fstat(f.fileno()).st_size
            if size == 0:
                return 0
            m = mmap.mmap(f.fileno(), size)
            at = off % size
            part = data[:size - at]
            m[at:at + len(part)] = part
            m.close()
            return 0
    if kind == 'create':
        fd = os.open(p, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o644)
        os.write(fd, data)
        return os.close(fd)
    if kind == 'xattr': return os.setxattr(p, 'user.x%d' % (mode % 3), data[:100])
    if kind == 'chmod': return os.chmod(p, mode | 0o600)
    if kind == 'list': return sorted(os.listdir(os.path.dirname(p)))
    if kind == 'unlinked':
        fd = os.open(p, os.O_RDWR)
        os.unlink(p)
        os.pwrite(fd, data, off)
        got = os.pread(fd, 50000, max(0, off - 1000))
        os.close(fd)
        return got

def result(*a):
    try:
        return ('ok', do(*a))
    except OSError as e:
        return ('error', e.errno)

def same(a, b):
    if sorted(os.listdir(a)) != sorted(os.listdir(b)):
        sys.exit('names of %s differ' % a)
    for n in os.listdir(a):
        p, q = a + '/' + n, b + '/' + n
        if os.path.isdir(p):
            same(p, q)
            continue
        s, t = os.lstat(p), os.lstat(q)
        if (s.st_mode, s.st_size, s.st_nlink) != (t.st_mode, t.st_size, t.st_nlink):
            sys.exit('attributes of %s differ: %s %s' % (p, s, t))
        fd = os.open(p, os.O_RDONLY)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
        if open(p, 'rb').read() != open(q, 'rb').read():
            sys.exit('content of %s differs' % p)
        if {k: os.getxattr(p, k) for k in os.listxattr(p)} != {k: os.getxattr(q, k) for k in os.listxattr(q)}:
            sys.exit('xattrs of %s differ' % p)

for i in range(count):
    kind, a, b = rnd.choice(KINDS), rnd.choice(names), rnd.choice(names)
    off = rnd.choice([rnd.randrange(400000), rnd.randrange(100) * 4096])
    data = rnd.randbytes(rnd.choice([rnd.randrange(1, 20000), 4096, 8192, rnd.randrange(1, 300000)]))
    mode = rnd.randrange(0o1000)
    r = [result(kind, t + '/' + a, t + '/' + b, off, data, mode) for t in (ours, plain)]
    if r[0] != r[1]:
        sys.exit('step %d, %s %s %s at %d, %d bytes: %.200s, wanted %.200s' % (i, kind, a, b, off, len(data), r[0], r[1]))
    if i % 200 == 199:
        same(ours, plain)
PY
for seed in 1 2 $((RANDOM + 3)); do
    rm -rf "$tmp/plain"
    cp -a "$data" "$tmp/plain"
    ok restore mount docs/latest "$tmp/mnt" --writable "$tmp/scratch"
    what="1000 random operations, seed $seed" \
        ok timeout 100 python3 "$tmp/random-ops.py" "$tmp/mnt$data" "$tmp/plain" "$seed" 1000
    ok restore unmount "$tmp/mnt"
    what="the scratch is gone" ok test ! -e "$tmp/scratch"
done

# Blocks, not files: a byte in a 50 MB file costs one block.
mkdir "$tmp/small"
mount -t tmpfs -o size=2m tmpfs "$tmp/small"
on_exit umount "$tmp/small"
ok restore mount docs/latest "$tmp/mnt" --writable "$tmp/small"
printf 'x' | dd of="$tmp/mnt$data/large" bs=1 seek=30000000 conv=notrunc,fsync status=none
used=$(df --output=used -k "$tmp/small" | tail -n 1)
what="one byte written costs no more than 8 KiB of scratch ($used)" ok [ "$used" -le 8 ]
printf 'x' | dd of="$data/large" bs=1 seek=30000000 conv=notrunc status=none
what="and the file reads right around it" ok cmp "$data/large" "$tmp/mnt$data/large"

status 1 dd if=/dev/urandom of="$tmp/mnt$data/large" bs=1M count=8 conv=notrunc,fsync status=none
like "$err" "*No space left on device*" "a full scratch is told to the writer"
ok restore unmount "$tmp/mnt"
is "$(find "$tmp/small" -mindepth 1)" "" "a scratch folder that was there is left empty"

echo mine >"$tmp/small/mine"
status 2 restore mount docs/latest "$tmp/mnt" --writable "$tmp/small"
like "$err" "*$tmp/small*not empty*" "a scratch in use is refused"
done_testing
