#!/bin/bash
# docs/format.md is enough to write a second implementation: tests/reader, which
# was written from it alone, lists, verifies and extracts what neap wrote, and what
# it extracts equals the snapshot. Every byte of every file is accounted for.
. "$(dirname "$0")/../lib.sh"
need_root
need_cmd mkfs.btrfs rsync setfattr setfacl
need_built neap
need_built neap-restore
/usr/bin/python3 -c 'import cryptography, xxhash, zstandard' 2>/dev/null ||
    skip_all "needs python3-cryptography, python3-xxhash, python3-zstandard"
neap_tmp
case_of= # encrypted or plain
neap() { "$NEAP_BUILD/neap" -c "$tmp/$case_of.yaml" "$@"; }
restore() { "$NEAP_BUILD/neap-restore" -c "$tmp/$case_of.yaml" "$@"; }
reader() { /usr/bin/python3 "$NEAP_TOP/tests/reader/read_backup.py" "$@"; }

make_btrfs "$tmp/fs" 512M
make_btrfs "$tmp/to" 512M # btrfs too, so that its flags can come back
top=$tmp/top
mkdir "$top"
mount -o subvolid=5,ro "$(findmnt -no SOURCE "$tmp/fs")" "$top"
on_exit umount "$top"

configure() { # CASE ENCRYPTION-LINES
    case_of=$1
    data=$tmp/fs/$case_of
    btrfs subvolume create "$data" >/dev/null
    cat >"$tmp/$case_of.yaml" <<YAML
state_dir: $tmp/state-$case_of
repository:
  url: $tmp/repo-$case_of
$2
jobs:
  docs: {engine: files, path: $data}
  other: {engine: files, path: $tmp/fs/$case_of/deep}
YAML
}

fill() {
    cd "$data" || exit 1
    printf 'x' >one-byte
    : >empty
    head -c 4096 /dev/urandom >one-block
    head -c 4097 /dev/urandom >block-and-a-byte
    head -c 131072 /dev/urandom >one-chunk
    head -c 1000003 /dev/urandom | base64 >odd
    head -c 3000001 /dev/urandom >noise
    cp odd equal-to-odd
    truncate -s 64M sparse
    printf 'middle' | dd of=sparse bs=1 seek=$((31 << 20)) conv=notrunc status=none
    dd if=/dev/urandom of=holes bs=4k count=1 seek=100 conv=notrunc status=none
    dd if=/dev/urandom of=holes bs=4k count=3 seek=500 conv=notrunc status=none
    head -c 300000 /dev/zero >zeros
    ln odd 'hard link'
    mkdir -p deep/er/est "dir with spaces" gone-later/with/depth
    head -c 5000 /dev/urandom >gone-later/with/depth/file
    ln odd "deep/er/est/third name"
    head -c 70000 /dev/urandom >deep/er/data
    ln -s ../odd deep/link
    ln -s "$(printf 'not\xffutf8')" dangling
    mkfifo pipe
    mknod null c 1 3
    mknod block b 7 250
    python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'
    printf 'a' >"$(printf 'not\xff\xfeutf8')"
    printf 'b' >"$(printf 'new\nline\ttab')"
    printf 'd' >"$(printf 'n%.0s' $(seq 255))"
    setfattr -n user.comment -v 'a value' odd
    setfattr -n user.binary -v 0x00ff00 one-byte
    setfattr -n user.empty one-byte
    setfattr -h -n trusted.link -v yes dangling
    setfacl -m u:1234:rwx,g:5678:r one-block
    setfacl -d -m u:1234:rwx deep
    chown 1234:5678 odd empty deep
    chown -h 77:78 dangling
    chmod 4755 one-block
    chmod 1777 "dir with spaces"
    touch -d '1969-07-20 20:17:40.123456789' one-byte
    touch -d '2038-01-20' "dir with spaces"
    : >nocow && chattr +C nocow && head -c 500000 /dev/urandom >nocow
    # Enough names that maps and index have several frames.
    mkdir many
    for i in $(seq 700); do echo "$i" >"many/file with a longer name, number $i"; done
    cd /
}

change() {
    cd "$data" || exit 1
    printf 'MIDDLE' | dd of=odd bs=1 seek=500000 conv=notrunc status=none
    printf 'tail' >>one-block
    truncate -s 100 block-and-a-byte
    truncate -s 4000 one-chunk && truncate -s 200000 one-chunk
    fallocate -p -o $((400 * 1024)) -l 65536 holes
    for i in $(seq 3 7 700); do
        printf '%s' "$i" | dd of=noise bs=1 seek=$((i * 4096)) conv=notrunc status=none
    done
    mv deep/er "dir with spaces/moved"
    mv equal-to-odd renamed
    rm one-byte && printf 'other' >one-byte
    rm pipe "$(printf 'new\nline\ttab')"
    rm -r gone-later
    ln renamed renamed-too
    cp --reflink=always odd cloned
    printf 'zzz' | dd of=nocow bs=1 seek=9000 conv=notrunc status=none
    setfattr -x user.comment odd
    touch -d 2001-01-01 empty
    mkdir fresh && cp odd fresh/copy
    printf 'far' | dd of=sparse bs=1 seek=$((50 << 20)) conv=notrunc status=none
    cd /
}

again() {
    cd "$data" || exit 1
    rm noise many/*7*
    printf 'again' | dd of=odd bs=1 seek=100 conv=notrunc status=none
    rmdir fresh/nothing 2>/dev/null || rm -r fresh
    ln -sfn elsewhere deep/link
    cd /
}

snapshot() { # the newest of this case's subvolume
    local uuid
    uuid=$(btrfs subvolume show "$data" | awk '$1 == "UUID:" { print $2 }')
    printf '%s\n' "$top/neap-snapshots/$uuid"/neap-docs-* | tail -1
}
same_as() { # SOURCE/ EXTRACTED/ NAME
    is "$(rsync -aHAXSn --checksum --delete --itemize-changes "$1" "$2" 2>&1 | head -20)" \
        "" "$3"
}

# backup_and_read NAME KEY…: a backup, and what the reader makes of it; the keys are
# the reader's.
backup_and_read() {
    local name=$1 backup
    shift
    status 0 neap --json backup docs
    backup=$(echo "$out" | json backup)
    names+=("$backup")
    what="$case_of, $name: the reader extracts it" \
        ok reader "$tmp/repo-$case_of" "$@" extract "$backup" "$tmp/to/out"
    same_as "$(snapshot)/" "$tmp/to/out$data/" "$case_of, $name: equal to the snapshot"
    is "$(lsattr "$tmp/to/out$data/nocow" | cut -d' ' -f1)" \
        "$(lsattr "$(snapshot)/nocow" | cut -d' ' -f1)" \
        "$case_of, $name: the NOCOW flag comes back"
    rm -rf "$tmp/to/out"
    restore -q extract "$backup" "$tmp/to/theirs-${#names[@]}" >/dev/null
}

read_case() { # KEY…: of the reader
    names=()
    fill
    backup_and_read "the first" "$@"
    change
    backup_and_read "after changes" "$@"
    again
    backup_and_read "the third" "$@"

    # Segments and maps that contain others come with more of them; and a proof.
    local i
    for i in 1 2 3 4; do
        head -c 20000 /dev/urandom >"$data/deep/new-$i"
        neap -q backup other || diag "backup of other failed"
    done
    status 0 restore -q check docs/latest

    what="$case_of: every byte and digest is as the format says" \
        status 0 reader "$tmp/repo-$case_of" "$@" verify
    diag "$out"
    like "$out" "*every byte is accounted for" "$case_of: and the reader says so"
    is "$(reader "$tmp/repo-$case_of" "$@" list | cut -d' ' -f1 | grep ^docs/)" \
        "$(printf '%s\n' "${names[@]}")" "$case_of: the reader lists the backups"

    like "$out" "*contained in others [1-9]*" "$case_of: merged segments were among it"
    like "$out" "*proofs 1*" "$case_of: and a proof"

    # Older backups stay as they were, and neap-restore agrees about each.
    for i in 1 2 3; do
        reader "$tmp/repo-$case_of" "$@" extract "${names[i - 1]}" "$tmp/to/out"
        same_as "$tmp/to/theirs-$i/tmp/" "$tmp/to/out/tmp/" \
            "$case_of: neap-restore extracts the same, backup $i"
        rm -rf --one-file-system "$tmp/to/out" "$tmp/to/theirs-$i"
    done
}

# What would go unnoticed is a reader that accepts anything: one byte in each kind of
# file, and the reader must say no.
damaged() { # KEY…
    local kind file size
    for kind in packs index maps backups; do
        rm -rf "$tmp/hurt"
        cp -a "$tmp/repo-$case_of" "$tmp/hurt"
        file=$(find "$tmp/hurt/$kind" -type f | sort | tail -1)
        size=$(stat -c %s "$file")
        /usr/bin/python3 - "$file" $((size / 2)) <<'PY'
import sys
with open(sys.argv[1], 'r+b') as f:
    f.seek(int(sys.argv[2])); b = f.read(1)[0]
    f.seek(-1, 1); f.write(bytes([b ^ 1]))
PY
        what="$case_of: a bit of $kind turned is found" \
            status 4 reader "$tmp/hurt" "$@" verify
    done
    rm -rf "$tmp/hurt"
    cp -a "$tmp/repo-$case_of" "$tmp/hurt"
    echo stray >"$tmp/hurt/stray"
    what="$case_of: a file that the format does not know is found" \
        status 4 reader "$tmp/hurt" "$@" verify
}

configure encrypted "  host_key: $tmp/host.key
  recovery_key: $tmp/recovery.key"
echo 'correct horse' >"$tmp/passphrase"
status 0 neap init --passphrase-file "$tmp/passphrase"
read_case --key "$tmp/recovery.key"
what="the passphrase's slot opens it too" \
    ok reader "$tmp/repo-encrypted" --passphrase "$tmp/passphrase" list
what="a host key lists" ok reader "$tmp/repo-encrypted" --key "$tmp/host.key" list
what="and opens no chunk" \
    status 4 reader "$tmp/repo-encrypted" --key "$tmp/host.key" verify
like "$err" "*recovery key only*" "as it says"
damaged --key "$tmp/recovery.key"

configure plain "  encryption: none"
status 0 neap init
read_case
damaged
done_testing
