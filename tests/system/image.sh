#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Whole devices as images: three backups of each of three devices (ext4, XFS,
# noise) with changes between and one that grows; each comes back byte for byte,
# into a file, onto a device, in place, and mounted with the files in it.
# tmp, out and err come from the library.
# shellcheck disable=SC2154
. "$(dirname "$0")/../lib.sh"
need_root
need_cmd losetup mkfs.ext4 mkfs.xfs rsync python3 fusermount3 blkdiscard
[ -e /dev/fuse ] || skip_all "no /dev/fuse here"
[ -e /dev/loop-control ] || skip_all "no loop devices here"
grep -qw xfs /proc/filesystems || modprobe xfs 2>/dev/null
need_built neap
need_built neap-restore
neap_tmp
neap() { "$NEAP_BUILD/neap" -q -c "$tmp/neap.yaml" "$@"; }
restore() { "$NEAP_BUILD/neap-restore" -q -c "$tmp/neap.yaml" "$@"; }
field() { # KEY of the JSON in $out
    echo "$out" | json "$1"
}
loop() { # FILE; the device's path in $dev
    dev=$(losetup --find --show "$1") || return 1
    on_exit sh -c "! losetup $dev || losetup -d $dev"
}

# Ours: of our disks, and of the images of them, also where their mount is gone.
loops() { losetup -n -O BACK-FILE | grep -cE "^$tmp/|/neap-images/loop[0-9]"; }

mkdir "$tmp/fs" "$tmp/was" "$tmp/mnt"
on_exit sh -c "! findmnt -n $tmp/fs || umount -l $tmp/fs"
on_exit sh -c "! findmnt -n $tmp/mnt || umount -l $tmp/mnt"
truncate -s 96M "$tmp/ext4.disk"
truncate -s 320M "$tmp/xfs.disk" # XFS takes 300 MiB at least
head -c 20000256 /dev/urandom >"$tmp/noise.disk"
truncate -s 20000256 "$tmp/noise.disk" # 512 × 39063: not whole blocks
mkfs.ext4 -qF -L news "$tmp/ext4.disk"
what="an XFS to test with" ok mkfs.xfs -qf "$tmp/xfs.disk"
declare -A device
for k in ext4 xfs noise; do
    loop "$tmp/$k.disk" || skip_all "no loop device to be had"
    device[$k]=$dev
done
cat >"$tmp/neap.yaml" <<YAML
state_dir: $tmp/state
repository:
  url: $tmp/repo
  host_key: $tmp/host.key
  recovery_key: $tmp/recovery.key
jobs:
  ext4: {engine: files, path: ${device[ext4]}, snapshot: none}
  xfs: {engine: files, path: ${device[xfs]}, snapshot: device}
  noise: {engine: files, path: ${device[noise]}, snapshot: none}
YAML
status 0 neap init

# Files of all sizes, changed at random from round to round.
change() { # ROUND
    python3 - "$1" "$tmp/fs" <<'PY'
import os, random, sys
turn, top = int(sys.argv[1]), sys.argv[2]
r = random.Random(turn)
for i in range(150):
    d = os.path.join(top, 'd%d' % (i % 7)); os.makedirs(d, exist_ok=True)
    p = os.path.join(d, 'f%d' % i)
    what = r.random()
    if turn > 1 and what < .6: continue
    if turn > 1 and what < .7:
        if os.path.exists(p): os.unlink(p)
        continue
    if turn > 1 and os.path.exists(p) and what < .9:
        with open(p, 'r+b') as f:
            f.seek(r.randrange(1 + os.path.getsize(p))); f.write(r.randbytes(r.randrange(1, 9000)))
        continue
    with open(p, 'wb') as f:
        f.write(r.randbytes(r.choice([1, 4096, 5000, 70000, 400000])))
PY
}
change_noise() { # ROUND
    python3 - "$1" "${device[noise]}" <<'PY'
import os, random, sys
r = random.Random(int(sys.argv[1]) + 100)
fd = os.open(sys.argv[2], os.O_RDWR); size = os.lseek(fd, 0, os.SEEK_END)
for _ in range(40):
    n = r.choice([512, 4096, 8192, 200000]); at = r.randrange(0, (size - n) // 512) * 512
    os.pwrite(fd, r.choice([r.randbytes(n), bytes(n)]), at)
os.pwrite(fd, r.randbytes(512), size - 512)
os.fsync(fd)
PY
}
round() { # NUMBER
    local k
    for k in ext4 xfs; do
        mount "${device[$k]}" "$tmp/fs" || return 1
        change "$1"
        [ "$1" != 2 ] || [ "$k" != ext4 ] || fstrim "$tmp/fs" 2>/dev/null
        umount "$tmp/fs" || return 1
    done
    change_noise "$1"
    if [ "$1" = 2 ]; then # grown: the image, the device, and what is in it
        truncate -s 25000448 "$tmp/noise.disk"
        truncate -s 400M "$tmp/xfs.disk"
        for k in noise xfs; do losetup -c "${device[$k]}" || return 1; done
        mount "${device[xfs]}" "$tmp/fs" && xfs_growfs "$tmp/fs" >/dev/null || return 1
        umount "$tmp/fs" || return 1
    fi
    [ "$1" != 3 ] || { # and shrunk
        truncate -s 15000064 "$tmp/noise.disk" && losetup -c "${device[noise]}"
    } || return 1
    for k in ext4 xfs noise; do
        cp --sparse=always "${device[$k]}" "$tmp/was/$k.$1" || return 1
    done
}
declare -A backup
for n in 1 2 3; do
    what="round $n: devices change" ok round "$n"
    for k in ext4 xfs noise; do
        status 0 neap --json backup "$k"
        backup[$k.$n]=$(field backup)
        is "$(field tracker)" scan "$k, round $n: by scan"
        is "$(field logical_bytes)" "$(stat -c %s "$tmp/was/$k.$n")" "$k, round $n: all of its bytes"
        [ "$n" = 1 ] || what="$k, round $n: only what changed is copied ($(field changed_bytes))" \
            ok [ "$(field changed_bytes)" -lt 30000000 ]
    done
done
status 0 neap --json backup xfs
is "$(field changed_bytes) $(field new_bytes)" "0 0" "nothing changed: nothing is copied"
status 0 neap --json show "${backup[ext4.1]}"
like "$out" '*"fs_type": "ext4"*' "the record says what is on it"
like "$out" '*"label": "news"*' "and its label"

name() { basename "${device[$1]}"; }
for n in 1 2 3; do
    for k in ext4 xfs noise; do
        status 0 restore extract "${backup[$k.$n]}" "$tmp/out"
        what="$k, round $n: the image is the device, byte for byte" \
            ok cmp "$tmp/was/$k.$n" "$tmp/out/neap-images/$(name $k).img"
        rm -rf "$tmp/out"
    done
done
status 0 restore extract "${backup[ext4.1]}" "$tmp/out"
what="its zeros take no room" ok [ "$(du -k "$tmp/out/neap-images/$(name ext4).img" | cut -f1)" -lt 50000 ]
is "$(stat -c '%a %u' "$tmp/out/neap-images" "$tmp/out/neap-images/$(name ext4).img")" "700 0
600 0" "nobody else reads it"
status 0 restore --json extract "${backup[ext4.3]}" "$tmp/out" --delta
what="--delta: to the third" ok cmp "$tmp/was/ext4.3" "$tmp/out/neap-images/$(name ext4).img"
what="--delta: writes what differs ($(field written_bytes))" ok [ "$(field written_bytes)" -lt 20000000 ]
rm -rf "$tmp/out"

# An independent reader comes to the same.
if /usr/bin/python3 -c 'import xxhash, zstandard, cryptography' 2>/dev/null; then
    status 0 /usr/bin/python3 "$NEAP_TOP/tests/reader/read_backup.py" "$tmp/repo" \
        --key "$tmp/recovery.key" extract "${backup[noise.2]}" "$tmp/out"
    what="the second reader: the image is the device" \
        ok cmp "$tmp/was/noise.2" "$tmp/out/neap-images/$(name noise).img"
    rm -rf "$tmp/out"
    status 0 /usr/bin/python3 "$NEAP_TOP/tests/reader/read_backup.py" "$tmp/repo" \
        --key "$tmp/recovery.key" verify
else
    what="the second reader" skip "needs python3-xxhash, -zstandard, -cryptography"
fi

# ---- onto a device ----
head -c 120000000 /dev/urandom >"$tmp/to.disk"
truncate -s 120000512 "$tmp/to.disk"
loop "$tmp/to.disk"
to=$dev
status 0 restore extract "${backup[ext4.1]}" "$to"
size=$(stat -c %s "$tmp/was/ext4.1")
what="a device: the image" ok cmp -n "$size" "$tmp/was/ext4.1" "$to"
what="a device: zeros behind it" ok cmp -n $((120000512 - size)) -i "$size:0" "$to" /dev/zero
status 3 restore extract "${backup[ext4.2]}" "$to"
like "$err" "*not empty: it holds ext4*--delta*" "a device that holds something is not overwritten"
status 0 restore --json extract "${backup[ext4.2]}" "$to" --delta
what="a device, --delta: the image" ok cmp -n "$size" "$tmp/was/ext4.2" "$to"
what="a device, --delta: zeros behind it" ok cmp -n $((120000512 - size)) -i "$size:0" "$to" /dev/zero
what="a device, --delta: writes what differs ($(field written_bytes))" ok [ "$(field written_bytes)" -lt 20000000 ]
status 3 restore extract "${backup[xfs.1]}" "$to" --delta
like "$err" "*too small*" "a device that is too small"
mount "$to" "$tmp/fs"
status 3 restore extract "${backup[ext4.1]}" "$to" --delta
like "$err" "*in use*" "a device that is mounted"
what="that is untouched" ok test -e "$tmp/fs/d1"
umount "$tmp/fs"
status 2 restore extract "${backup[ext4.1]}" "$to" --delta --path /x
truncate -s 512 "$tmp/to.disk"

# ---- mounted ----
mount "${device[ext4]}" "$tmp/fs"
status 3 neap backup ext4
like "$err" "*is in use: it is mounted at $tmp/fs*" "a device that is mounted is not backed up"
umount "$tmp/fs"
before=$(loops)
for k in ext4 xfs; do
    status 0 restore mount "${backup[$k.3]}" "$tmp/mnt"
    what="$k: the image in the mount is the device" \
        ok cmp "$tmp/was/$k.3" "$tmp/mnt/neap-images/$(name $k).img"
    uuid=ro
    [ $k = ext4 ] || uuid=ro,nouuid # there are two of it now
    what="$k: its device is mounted beside it" ok mount -o "$uuid" "${device[$k]}" "$tmp/fs"
    is "$(rsync -naHAXc --delete --itemize-changes "$tmp/fs/" "$tmp/mnt/neap-images/$(name $k)/")" "" \
        "$k: the files in it are those of the device"
    umount "$tmp/fs"
    what="$k: nothing can be written" ok sh -c "! touch $tmp/mnt/neap-images/$(name $k)/new 2>/dev/null"
    is "$(loops)" $((before + 1)) "$k: it has a loop device"
    status 0 restore unmount "$tmp/mnt"
    is "$(loops)" "$before" "$k: no loop device stays"
    status 0 restore mount "${backup[$k.2]}" "$tmp/mnt" --writable "$tmp/scratch"
    inside=$tmp/mnt/neap-images/$(name $k)
    what="$k: files can be written" ok cp "$tmp/recovery.key" "$inside/new"
    what="$k: and removed" ok rm -r "$inside/d3"
    sync -f "$inside/new"
    cd "$inside" || exit 1
    status 3 restore unmount "$tmp/mnt"
    like "$err" "*in use*" "$k: somebody works in it"
    cd "$NEAP_TOP" || exit 1
    status 0 restore unmount "$tmp/mnt"
    is "$(loops)" "$before" "$k: no loop device stays, written to or not"
    what="$k: no scratch stays" ok [ ! -e "$tmp/scratch" ]
    status 0 restore mount "${backup[$k.2]}" "$tmp/mnt"
    what="$k: what was written is gone" ok test -e "$inside/d3" -a ! -e "$inside/new"
    status 0 restore unmount "$tmp/mnt"
done

# The server is killed while the file system is mounted and written to.
status 0 restore mount "${backup[ext4.2]}" "$tmp/mnt" --writable "$tmp/scratch"
inside=$tmp/mnt/neap-images/$(name ext4)
head -c 1000000 /dev/urandom >"$inside/late"
server=$(pgrep -f -- "mount ${backup[ext4.2]} $tmp/mnt")
kill -9 "$server"
status 0 timeout 60 "$NEAP_BUILD/neap-restore" -c "$tmp/neap.yaml" unmount "$tmp/mnt"
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ "$(loops)" != "$before" ] || break
    sleep 0.5
done
is "$(loops)" "$before" "killed: no loop device stays"
is "$(findmnt -rno TARGET | grep -c "^$tmp/mnt")" 0 "killed: no mount stays"
rm -rf "$tmp/scratch"
status 0 restore mount "${backup[ext4.2]}" "$tmp/mnt" --writable "$tmp/scratch"
echo late >"$inside/late"
server=$(pgrep -f -- "mount ${backup[ext4.2]} $tmp/mnt")
kill -TERM "$server"
for _ in $(seq 60); do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.5
done
what="told to end, it ends" ok sh -c "! kill -0 $server 2>/dev/null"
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ "$(loops)" != "$before" ] || break
    sleep 0.5
done
is "$(loops)" "$before" "told to end: no loop device stays"
is "$(findmnt -rno TARGET | grep -c "^$tmp/mnt")" 0 "told to end: no mount stays"
rm -rf "$tmp/scratch"

# ---- checked, whole and damaged ----
status 0 restore check "${backup[ext4.3]}"
is "$(loops)" "$before" "check: no loop device stays"
pack=$(find "$tmp/repo/packs" -type f -printf '%s %p\n' | sort -n | tail -1 | cut -d' ' -f2)
cp "$pack" "$tmp/pack"
python3 - "$pack" <<'PY'
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR); size = os.fstat(fd).st_size
for at in range(4096, size - 65536, 1 << 20): os.pwrite(fd, b'damage', at)
PY
status 4 restore extract "${backup[noise.1]}" "$tmp/out"
like "$err" "*neap-images/$(name noise).img: * bytes at offset *" "damage: by name and offset"
rm -rf "$tmp/out"
cp "$tmp/pack" "$pack"
status 0 restore extract "${backup[noise.1]}" "$tmp/out"
what="mended: as it was" ok cmp "$tmp/was/noise.1" "$tmp/out/neap-images/$(name noise).img"
rm -rf "$tmp/out"

# ---- read-only mounted: paths of the host lie in the image ----
mount -o ro "${device[ext4]}" "$tmp/fs"
cat >>"$tmp/neap.yaml" <<YAML
  within: {engine: files, path: $tmp/fs/d1, snapshot: device}
YAML
status 0 neap backup within
status 0 restore mount within/latest "$tmp/mnt"
is "$(rsync -naHAXc --delete --itemize-changes "$tmp/fs/" "$tmp/mnt$tmp/fs/")" "" \
    "the file system is mounted where the host had it"
status 0 restore unmount "$tmp/mnt"
status 0 restore --json check within/latest
files=$(find "$tmp/fs/d1" -type f | wc -l)
like "$out" "*\"$files files (*" "check reads the files of the path, within the image"
umount "$tmp/fs"
done_testing
