#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The read-only mount: the same tree, for many readers at once; damage, busy
# folders, and a server that is killed.
# tmp, out and err come from the library.
# shellcheck disable=SC2154
. "$(dirname "$0")/../lib.sh"
need_root
need_cmd fusermount3 rsync python3 setfattr
[ -e /dev/fuse ] || skip_all "no /dev/fuse here"
need_built neap
need_built neap-restore
neap_tmp
neap() { "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
restore() { "$NEAP_BUILD/neap-restore" -q -c "$tmp/neap.yaml" "$@"; }

data=$tmp/data
mkdir -p "$data/many" "$tmp/mnt"
on_exit sh -c "! findmnt -n $tmp/mnt || umount -l $tmp/mnt"
head -c 20000000 /dev/urandom >"$data/big"
truncate -s 3G "$data/sparse"
printf 'end' | dd of="$data/sparse" bs=1 seek=$((3 << 30)) conv=notrunc status=none
for i in $(seq 1500); do echo "$i" >"$data/many/$i"; done
printf 'a' >"$(printf '%s/not\xff\xfeutf8' "$data")"
ln "$data/many/1" "$data/one"
ln -s many/2 "$data/two"
mkfifo "$data/pipe"
setfattr -n user.colour -v blue "$data/one"
chown 12:34 "$data/one"
chmod 640 "$data/one"
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

status 0 restore mount docs/latest "$tmp/mnt"
is "$(rsync -naHAX --delete --itemize-changes "$data/" "$tmp/mnt$data/")" "" \
    "names, attributes, links and xattrs are the same"
what="content is the same" ok cmp "$data/big" "$tmp/mnt$data/big"
is "$(tail -c 3 "$tmp/mnt$data/sparse")" end "the end of a sparse file is there"
status 1 touch "$tmp/mnt$data/new"
like "$err" "*Read-only file system*" "nothing can be written"
readers=()
for i in 1 2 3 4 5 6; do
    cmp "$data/big" "$tmp/mnt$data/big" &
    readers+=($!)
    find "$tmp/mnt$data/many" -type f -exec cat {} + >/dev/null &
    readers+=($!)
done
cat "$tmp/mnt$data/big" "$tmp/mnt$data/sparse" >/dev/null &
killed=$!
sleep 0.2
kill -9 "$killed"
bad=0
for r in "${readers[@]}"; do wait "$r" || bad=$((bad + 1)); done
is "$bad" 0 "twelve readers at once, one killed beside them, read the same"

exec 7<"$tmp/mnt$data/big"
status 3 restore unmount "$tmp/mnt"
like "$err" "*in use by *bash ($$)*" "a busy mount names who keeps it busy"
exec 7<&-
status 0 restore unmount "$tmp/mnt"
is "$(findmnt -n "$tmp/mnt")" "" "it is unmounted"
is "$(pgrep -fc "mount docs/latest $tmp/mnt")" 0 "and its server is gone"

status 0 restore mount docs/latest "$tmp/mnt"
kill -9 "$(pgrep -f "mount docs/latest $tmp/mnt")"
sleep 0.3
status 0 restore unmount "$tmp/mnt"

status 1 restore mount docs/latest "$tmp/nowhere"
like "$err" "*$tmp/nowhere*" "a folder that is not there is named"
status 5 "$NEAP_BUILD/neap-restore" -r "$tmp/repo" --key "$tmp/host.key" mount docs/latest "$tmp/mnt"

for pack in "$tmp"/repo/packs/*/*; do
    chmod u+w "$pack"
    printf 'damage' | dd of="$pack" bs=1 seek=3000 conv=notrunc status=none
done
"$NEAP_BUILD/neap-restore" -c "$tmp/neap.yaml" mount --foreground docs/latest "$tmp/mnt" 2>"$tmp/log" &
for i in $(seq 50); do
    findmnt -n "$tmp/mnt" >/dev/null && break
    sleep 0.1
done
cat "$tmp/mnt$data/big" "$tmp/mnt$data"/many/* >/dev/null 2>"$tmp/cat.err"
like "$(cat "$tmp/cat.err")" "*Input/output error*" "damage is an I/O error to the reader"
like "$(cat "$tmp/log")" "*$data/*near offset*" "and the log has its path and offset"
ok restore unmount "$tmp/mnt"
done_testing
