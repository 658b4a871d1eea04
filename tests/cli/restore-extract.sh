#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Extract: whole, in part, in place; what it refuses; what damage looks like.
# tmp, out and err come from the library.
# shellcheck disable=SC2154
. "$(dirname "$0")/../lib.sh"
need_cmd python3
need_built neap
need_built neap-restore
neap_tmp
neap() { "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
restore() { "$NEAP_BUILD/neap-restore" -c "$tmp/neap.yaml" "$@"; }

data=$tmp/data
mkdir -p "$data/sub/deep"
head -c 700001 /dev/urandom >"$data/random"
head -c 300000 /dev/urandom >"$data/sub/other"
for i in 1 2 3 4 5 6 7 8 9; do echo "$i" >"$data/sub/deep/n$i"; done
truncate -s 5M "$data/sparse"
printf 'x' | dd of="$data/sparse" bs=1 seek=3000000 conv=notrunc status=none
ln "$data/sub/other" "$data/sub/same"
ln -s sub/other "$data/link"
seq 9500000 >"$data/large"
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
status 0 restore --json list
like "$out" '*"consistency"*' "list has the backup"

status 0 restore extract docs/latest "$tmp/out"
what="a restore leaves the page cache alone"
if [ "$(stat -f -c %T "$tmp")" = tmpfs ]; then
    skip "a tmpfs is in the page cache"
else
    ok [ "$(fincore -b -n -o RES "$tmp/out$data/large")" -lt 20000000 ]
fi
what="all of it is the same" ok diff -r --no-dereference "$data" "$tmp/out$data"
is "$(stat -c %h "$tmp/out$data/sub/other")" 2 "the hard link is one"
what="holes stay holes" ok [ "$(stat -c %b "$tmp/out$data/sparse")" -lt 1000 ]
status 3 restore extract docs/latest "$tmp/out"
like "$err" "*--delta*" "a full target is refused, with the way out"

# In place.
printf 'CHANGED' | dd of="$tmp/out$data/random" bs=1 seek=200000 conv=notrunc status=none
truncate -s 100 "$tmp/out$data/sub/other"
head -c 9000 /dev/urandom | dd of="$tmp/out$data/sparse" bs=1 seek=1000000 conv=notrunc status=none
rm "$tmp/out$data/sub/deep/n4"
ln -sfn /elsewhere "$tmp/out$data/link"
echo new >"$tmp/out$data/extra"
mkdir "$tmp/out$data/more"
echo new >"$tmp/out$data/more/extra"
echo kept >"$tmp/out/not-in-the-backed-up-path"
status 0 restore --json extract docs/latest "$tmp/out" --delta
what="few bytes are written" ok [ "$(echo "$out" | json written_bytes)" -lt 320000 ]
is "$(echo "$out" | json removed)" 2 "two extra names are removed"
what="in place it is the same again" ok diff -r --no-dereference "$data" "$tmp/out$data"
what="what is above the backed-up path stays" ok test -e "$tmp/out/not-in-the-backed-up-path"
status 0 restore --json extract docs/latest "$tmp/out" --delta
is "$(echo "$out" | json written_bytes)" 300000 "a second time only the file with two names is written"

exec 7<"$tmp/out$data/random"
status 3 restore extract docs/latest "$tmp/out" --delta
like "$err" "*in use by process $$*" "a target in use is refused, with the process"
exec 7<&-

# In part.
status 0 restore extract docs/latest "$tmp/part" --path "$data/sub/deep" --path "*/ran*"
is "$(cd "$tmp/part$data" && find . -type f | sort | tr '\n' ' ')" \
    "./random ./sub/deep/n1 ./sub/deep/n2 ./sub/deep/n3 ./sub/deep/n4 ./sub/deep/n5 ./sub/deep/n6 ./sub/deep/n7 ./sub/deep/n8 ./sub/deep/n9 " \
    "a folder and a pattern bring just that"
status 1 restore extract docs/latest "$tmp/nothing" --path /no/such
like "$err" "*/no/such*" "a path that matches nothing is named"
status 1 restore extract docs/2001 "$tmp/nothing2"
like "$err" "*docs/2001*" "so is a backup that is not there"

# Keys.
status 5 restore -r "$tmp/repo" --key "$tmp/host.key" extract docs/latest "$tmp/hosted"
status 0 restore -r "$tmp/repo" --key "$tmp/recovery.key" extract docs/latest "$tmp/bare"
what="repository and key are enough" ok diff -r --no-dereference "$data" "$tmp/bare$data"

# Damage: one byte of a pack.
pack=$(find "$tmp/repo/packs" -type f | head -n 1)
chmod u+w "$pack"
python3 - "$pack" <<'PY'
import sys
with open(sys.argv[1], 'r+b') as f:
    f.seek(200000)
    b = f.read(1)
    f.seek(200000)
    f.write(bytes([b[0] ^ 1]))
PY
status 4 restore extract docs/latest "$tmp/damaged"
like "$err" "*damaged: $data/*bytes at offset*" "path and offset of the damage are told"
like "$err" "*$(basename "$pack")*" "and the pack"
n=$(diff -rq --no-dereference "$data" "$tmp/damaged$data" | wc -l)
what="the other files are all there" ok [ "$n" -ge 1 -a "$n" -le 2 ]
rm "$pack"
status 4 restore extract docs/latest "$tmp/missing"
done_testing
