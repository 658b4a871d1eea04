#!/bin/bash
# A folder of hostile files: what comes back equals the snapshot, byte for byte and
# attribute for attribute, after the first backup and after changes of all kinds.
. "$(dirname "$0")/../lib.sh"
need_root
need_cmd mkfs.btrfs rsync setfattr setfacl python3
need_built neap
need_built neap-restore
neap_tmp
neap() { "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
restore() { "$NEAP_BUILD/neap-restore" -c "$tmp/neap.yaml" "$@"; }

make_btrfs "$tmp/fs" 1G
make_btrfs "$tmp/to" 1G # btrfs too, so that its flags can come back
data=$tmp/fs/data
btrfs subvolume create "$data" >/dev/null
cat >"$tmp/neap.yaml" <<YAML
state_dir: $tmp/state
repository:
  url: $tmp/repo
  host_key: $tmp/host.key
  recovery_key: $tmp/recovery.key
jobs:
  docs: {engine: files, path: $data}
YAML
status 0 neap init

cd "$data" || exit 1
printf 'x' >one-byte
: >empty
head -c 4096 /dev/urandom >one-block
head -c 4097 /dev/urandom >block-and-a-byte
head -c 131072 /dev/urandom >one-chunk
head -c 1000003 /dev/urandom >odd
cp odd equal-to-odd
truncate -s 1T huge-sparse
printf 'middle' | dd of=huge-sparse bs=1 seek=$((512 << 30)) conv=notrunc status=none
dd if=/dev/urandom of=holes bs=4k count=1 seek=100 conv=notrunc status=none
dd if=/dev/urandom of=holes bs=4k count=3 seek=500 conv=notrunc status=none
head -c 300000 /dev/zero >zeros
ln odd 'hard link'
mkdir -p deep/er/est "dir with spaces"
ln odd "deep/er/est/third name"
ln -s ../odd deep/link
ln -s /nowhere/at/all dangling
mkfifo pipe
mknod null c 1 3
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'
printf 'a' >"$(printf 'not\xff\xfeutf8')"
printf 'b' >"$(printf 'new\nline\ttab')"
printf 'c' >'-rf *?[x]'
printf 'd' >"$(printf 'n%.0s' $(seq 255))"
setfattr -n user.comment -v 'a value' odd
setfattr -n user.binary -v 0x00ff00 one-byte
setfattr -n user.empty one-byte
setfacl -m u:1234:rwx,g:5678:r one-block
setfacl -d -m u:1234:rwx deep
chown 1234:5678 odd empty deep
chmod 4755 one-block
chmod 1777 "dir with spaces"
chmod 000 empty
touch -d '1969-07-20 20:17:40.123456789' one-byte
touch -d '2038-01-20' "dir with spaces"
: >nocow && chattr +C nocow && head -c 500000 /dev/urandom >nocow
head -c 400000 /dev/urandom | base64 >squeezed
btrfs property set squeezed compression zstd 2>/dev/null
btrfs filesystem defragment -czstd squeezed >/dev/null
cd /

top=$tmp/top
mkdir "$top"
mount -o subvolid=5,ro "$(findmnt -no SOURCE "$tmp/fs" | sed 's/\[.*//')" "$top"
on_exit umount "$top"
snapshot() { printf '%s\n' "$top"/neap-snapshots/*/neap-docs-* | tail -1; }
# rsync for bytes, owners, modes, times, links, ACLs and attributes. The 1 TiB file
# is compared by its data ranges: reading its zeros would take minutes.
compare() { # EXTRACTED NAME
    local d
    d=$(rsync -aHAXSn --checksum --delete --itemize-changes --exclude=/huge-sparse \
        "$(snapshot)/" "$1$data/" 2>&1)
    is "$d" "" "$2: rsync sees no difference"
    d=$(python3 - "$(snapshot)/huge-sparse" "$1$data/huge-sparse" <<'PY'
import os, sys
def ranges(path):
    fd = os.open(path, os.O_RDONLY); size = os.fstat(fd).st_size; at = 0; out = {}
    while at < size:
        try: at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError: break
        end = os.lseek(fd, at, os.SEEK_HOLE)
        while at < end:
            b = os.pread(fd, 4096, at)
            if b.strip(b'\0'): out[at // 4096] = b
            at += 4096
    return size, out, os.stat(path).st_mtime_ns
print("same" if ranges(sys.argv[1]) == ranges(sys.argv[2]) else "different")
PY
    )
    is "$d" same "$2: the 1 TiB sparse file is the same"
}

status 0 neap --json backup docs
first=$(echo "$out" | json backup)
like "$out" '*"everything_why": "this is the first backup"*' "the first one says that it read everything"
status 0 restore extract docs/latest "$tmp/to/out1"
compare "$tmp/to/out1" "first"
like "$(lsattr "$tmp/to/out1$data/nocow")" "*C*" "the NOCOW flag comes back on btrfs"
what="the 1 TiB file costs no disk" ok [ "$(du -s "$tmp/to/out1$data/huge-sparse" | cut -f1)" -lt 1000 ]

status 0 neap --json backup docs
like "$out" '*"changed_bytes": 0,*' "nothing changed: nothing is stored"

# Changes of all kinds.
cd "$data" || exit 1
printf 'MIDDLE' | dd of=odd bs=1 seek=500000 conv=notrunc status=none
printf 'tail' >>one-block
truncate -s 100 block-and-a-byte
truncate -s 4000 one-chunk && truncate -s 200000 one-chunk
fallocate -p -o $((400 * 1024)) -l 65536 holes
fallocate -p -o $((2000 * 1024)) -l 8192 holes
mv deep/er "dir with spaces/moved"
mv equal-to-odd renamed
rm one-byte && printf 'other' >one-byte
rm pipe
ln renamed renamed-too
cp --reflink=always odd cloned
printf 'zzz' | dd of=nocow bs=1 seek=9000 conv=notrunc status=none
printf 'zzz' | dd of=squeezed bs=1 seek=70000 conv=notrunc status=none
setfattr -x user.comment odd
chmod 600 zeros
touch -d 2001-01-01 empty
rm "$(printf 'new\nline\ttab')"
mkdir fresh && cp odd fresh/copy
printf 'far' | dd of=huge-sparse bs=1 seek=$((900 << 30)) conv=notrunc status=none
cd /
status 0 neap --json backup docs
like "$out" '*"tracker": "btrfs-extents"*' "the third is tracked"
like "$out" '*"wrong_blocks": 0*' "and its cross-check is clean"
status 0 restore extract docs/latest "$tmp/to/out2"
compare "$tmp/to/out2" "after changes"
status 0 neap diff "$first" docs/latest
like "$out" "*renamed*" "diff names what was renamed"
status 0 restore extract docs/latest "$tmp/to/out1" --delta
compare "$tmp/to/out1" "in place"

# The oracle of the tracker: a full scan finds nothing more.
status 0 neap --json backup docs --full-scan
like "$out" '*"changed_bytes": 0,*' "a full scan agrees with the tracker"

# One path, and a pattern.
status 0 restore extract docs/latest "$tmp/to/part" --path "$data/fresh"
what="one path: the folder" ok cmp "$data/fresh/copy" "$tmp/to/part$data/fresh/copy"
what="one path: nothing else" ok [ ! -e "$tmp/to/part$data/odd" ]

# Two at once; a state folder lost; a block map torn; a snapshot lost.
exec 9>"$tmp/state/jobs/docs/lock"
flock 9
status 3 neap backup docs
like "$err" "*another backup*" "two at once: the second is refused"
exec 9>&-
printf 'torn' | dd of="$tmp/state/jobs/docs/blockmap/objects" bs=1 seek=100 conv=notrunc status=none
status 0 neap --json backup docs
like "$err$out" "*block map*" "a torn block map is named"
new=$(echo "$out" | json new_bytes)
what="and what is hashed again is known but for scattered blocks ($new new)" ok [ "$new" -lt 500000 ]
rm -rf "$tmp/state"
status 0 neap --json backup docs
like "$out" '*"new_bytes": 0,*' "without its state everything is hashed, nothing stored twice"
umount "$top"
btrfs subvolume delete --subvolid "$(btrfs subvolume list "$tmp/fs" | awk '/neap-docs/ {print $2}' | tail -1)" "$tmp/fs" >/dev/null
status 0 neap --json backup docs
like "$out" '*snapshot of the last backup is missing*' "a missing snapshot means a full scan, and it says so"
mount -o subvolid=5,ro "$(findmnt -no SOURCE "$tmp/fs" | sed 's/\[.*//')" "$top"
status 0 restore extract docs/latest "$tmp/to/out3"
compare "$tmp/to/out3" "after all that"
status 0 restore check docs/latest
btrfs subvolume create "$data/nested" >/dev/null
status 3 neap backup docs
like "$err" "*$data/nested*" "a nested subvolume is refused by name"
done_testing
