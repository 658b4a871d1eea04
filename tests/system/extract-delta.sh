#!/bin/bash
# extract --delta over what must not be written in place: names that are one file there
# and two in the backup, a file that has a name outside the target, and btrfs files
# that differ in what only an empty file can choose.
. "$(dirname "$0")/../lib.sh"
need_root
need_cmd mkfs.btrfs rsync lsattr chattr python3
need_built neap
need_built neap-restore
neap_tmp
neap() { "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
restore() { "$NEAP_BUILD/neap-restore" -q -c "$tmp/neap.yaml" "$@"; }

make_btrfs "$tmp/fs" 1G
make_btrfs "$tmp/to" 1G
data=$tmp/fs/data
btrfs subvolume create "$data" >/dev/null
cat >"$tmp/neap.yaml" <<YAML
state_dir: $tmp/state
repository: {url: $tmp/repo, encryption: none}
jobs:
  docs: {engine: files, path: $data}
YAML
status 0 neap init
there=$tmp/to/out$data
differences() { rsync -aHAXSn --checksum --delete --itemize-changes "$data/" "$there/" 2>&1; }

# ---- first: two pairs of names, and files with each flag ----
cd "$data" || exit 1
noise() { head -c 300000 /dev/urandom; }
noise >a && ln a b
noise >c && ln c d
noise >shared
touch nocow compressed plain
chattr +C nocow
chattr +c compressed
noise | tee nocow compressed >plain
status 0 neap backup docs
status 0 restore extract docs/latest "$tmp/to/out"
is "$(differences)" "" "as it was"

# ---- then: the names cross, the flags move, and the target is not ours alone ----
mv b x && mv d b && mv x d # a=d, c=b
noise >d
noise >b
mv nocow x && mv plain nocow && mv x plain
mv compressed x && cp plain compressed && rm x
chattr +c nocow
noise >shared
ln shared shared-too
ln "$there/shared" "$tmp/to/mine"
mine=$(sha256sum <"$tmp/to/mine")
status 0 neap backup docs
status 0 restore extract docs/latest "$tmp/to/out" --delta
is "$(differences)" "" "--delta: each name has its own content, attributes and links"
flags() { (cd "$1" && lsattr nocow compressed plain); }
is "$(flags "$there")" "$(flags "$data")" "and its flags"
is "$(sha256sum <"$tmp/to/mine")" "$mine" "what has a name outside the target keeps its content"

# ---- once more: nothing is left to write but what has several names ----
status 0 restore --json extract docs/latest "$tmp/to/out" --delta
is "$(differences)" "" "a second time the same"
is "$(echo "$out" | json written_bytes)" 900000 "only the three files with several names are written anew"

# ---- a folder that hands its flags down ----
chattr +C "$there"
rm "$there/plain" "$there/nocow"
status 0 restore extract docs/latest "$tmp/to/out" --delta
is "$(differences)" "" "what is made anew in a folder without copy-on-write"
is "$(flags "$there")" "$(flags "$data")" "has the backup's flags, not the folder's"
cd /
done_testing
