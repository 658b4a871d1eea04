#!/bin/bash
# A backup onto a damaged repository, and beside a damaged block map: it succeeds
# and can be restored, or fails with the documented status and stores nothing. With
# trackers at work, so that what is not looked at again would be missed.
. "$(dirname "$0")/../lib.sh"
need_root
need_cmd mkfs.btrfs python3
need_built neap
need_built neap-restore
neap_tmp
neap() { timeout 60 "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
restore() { timeout 60 "$NEAP_BUILD/neap-restore" -q -c "$tmp/neap.yaml" "$@"; }

make_btrfs "$tmp/fs" 512M
data=$tmp/fs/data
other=$tmp/fs/other
btrfs subvolume create "$data" >/dev/null
btrfs subvolume create "$other" >/dev/null
mkdir "$data/sub"
head -c 3000000 /dev/urandom >"$data/large"
head -c 500000 /dev/urandom >"$data/sub/middle"
for i in 1 2 3 4 5 6 7 8 9; do echo "$i" >"$data/sub/small$i"; done
head -c 300000 "$data/large" >"$other/shared"
head -c 1000000 /dev/urandom >"$other/own"
cat >"$tmp/neap.yaml" <<YAML
state_dir: $tmp/state
repository:
  url: $tmp/repo
  host_key: $tmp/host.key
  recovery_key: $tmp/recovery.key
jobs:
  docs: {engine: files, path: $data}
  other: {engine: files, path: $other}
YAML
status 0 neap init
status 0 neap backup docs
status 0 neap backup other

n=0
change() { # a little, as a database does
    n=$((n + 1))
    printf 'change %s' $n | dd of="$data/large" bs=1 seek=$((n * 50000)) conv=notrunc status=none
    echo $n >"$data/sub/counter"
}
change
status 0 neap --json backup docs
like "$out" '*"tracker": "btrfs-extents"*' "the tracker is at work"
sums() { (cd "$tmp/repo" && find . -type f -exec sha256sum {} + | sort -k 2); }
comes_back() { # JOB FOLDER
    rm -rf "$tmp/out"
    what="$1: the new backup is whole${why:+ ($why)}" ok restore extract "$1/latest" "$tmp/out"
    what="$1: and right${why:+ ($why)}" ok diff -r --no-dereference "$2" "$tmp/out$2"
}
why=
comes_back docs "$data"
largest() { find "$tmp/repo/packs" -type f -printf '%s %P\n' | sort -n | tail -1 | cut -d' ' -f2; }

# ---- a pack is gone ----
why="a pack is gone"
pack=packs/$(largest)
mv "$tmp/repo/$pack" "$tmp/pack"
change
status 0 neap --json backup docs
like "$err" "*job docs*$tmp/repo*$pack*neap-restore check*" "a missing pack is named, with what to do"
like "$out" "*\"everything_why\": \"packs are missing*$pack*" "and everything is stored again"
comes_back docs "$data"
what="what was there is not stored twice" ok [ "$(du -sb "$tmp/repo/packs" | cut -f1)" -lt 6500000 ]
change
status 0 neap --json backup docs
like "$out" '*"tracker": "btrfs-extents"*"wrong_blocks": 0*' "once: the next is tracked again"
like "$err" "*$pack*" "but the warning stays while earlier backups need the pack"
comes_back docs "$data"
# Its chunk is in the missing pack, by another job's backup.
status 0 neap --json backup other
like "$out" "*packs are missing*" "another job that needs the pack does not build on it either"
comes_back other "$other"
mv "$tmp/pack" "$tmp/repo/$pack"
change
status 0 neap --json backup docs
is "$err" "" "the pack is back: no warning"
why="the pack is back"
comes_back docs "$data"
rm "$tmp/repo/$pack"
status 0 neap -q backup docs
why="gone again"
comes_back docs "$data"

# ---- the index ----
why="the index is gone"
mv "$tmp/repo/index" "$tmp/index"
change
status 0 neap --json backup docs
like "$err" "*job docs*packs*index lacked*" "a lost index is found again in the packs, and it is said"
like "$out" '*"tracker": "btrfs-extents"*' "nothing has to be stored anew"
comes_back docs "$data"
comes_back other "$other"
rm -r "$tmp/index"
index=$(find "$tmp/repo/index" -type f -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2)
for how in half flip empty; do
    cp "$index" "$tmp/kept"
    case $how in
    half) truncate -s $(($(stat -c %s "$index") / 2)) "$index" ;;
    flip) printf '\x5a' | dd of="$index" bs=1 seek=100 conv=notrunc status=none ;;
    empty) : >"$index" ;;
    esac
    before=$(sums)
    what="index $how: 4" status 4 neap backup docs
    like "$err" "*job docs*index/${index##*/}*move*" "the segment is named, and what to do"
    is "$(sums)" "$before" "and nothing was stored"
    cp "$tmp/kept" "$index"
done
mv "$index" "$tmp/kept"
change
status 0 neap -q backup docs
why="what the message says helps"
comes_back docs "$data"
comes_back other "$other"

# ---- maps and the record that the next backup would build upon ----
maps() { neap --json show docs/latest | python3 -c 'import json, sys; [print(m["id"]) for m in json.load(sys.stdin)["maps"]]'; }
for how in missing half flip; do
    for of in map record; do
        why="$of $how"
        file=$tmp/repo/maps/$(maps | tail -1)
        [ $of = map ] || file=$(find "$tmp/repo/backups/docs" -type f | sort | tail -1)
        case $how in
        missing) rm "$file" ;;
        half) truncate -s $(($(stat -c %s "$file") / 2)) "$file" ;;
        flip) printf '\x5a' | dd of="$file" bs=1 seek=90 conv=notrunc status=none ;;
        esac
        change
        sleep 1.1 # a name of its own, also where the last record is gone
        what="$why: the backup is made" status 0 neap --json backup docs
        like "$err$out" "*${file##*/}*" "$why: the file is named"
        comes_back docs "$data"
        # A damaged record stays in the list; it is put aside.
        [ $of != record ] || rm -f "$file"
    done
done

# ---- the block map ----
map=$tmp/state/jobs/docs/blockmap
for file in objects hashes; do
    for how in missing empty half minus1 flip-head flip-mid flip-end foreign; do
        why="block map, $file $how"
        at=$map/$file
        size=$(stat -c %s "$at")
        flip() {
            python3 - "$at" "$1" <<'PY'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2])); b = f.read(1)[0]
    f.seek(int(sys.argv[2])); f.write(bytes([b ^ 4]))
PY
        }
        case $how in
        missing) rm "$at" ;;
        empty) : >"$at" ;;
        half) truncate -s $((size / 2)) "$at" ;;
        minus1) truncate -s $((size - 1)) "$at" ;;
        flip-head) flip 3 ;;
        flip-mid) flip $((size / 2)) ;;
        flip-end) flip $((size - 1)) ;;
        foreign) cp "$tmp/state/jobs/other/blockmap/$file" "$at" ;;
        esac
        change
        what="$why: the backup is made" status 0 neap --json backup docs
        # A page that nothing asks for is found when it is asked for.
        case $file-$how in
        hashes-flip-mid | hashes-flip-end) ;;
        *) like "$out" '*"everything_why": "?*' "$why: everything was hashed" ;;
        esac
        [ "$how" = missing ] || [[ $out == *'"everything_why": null'* ]] ||
            like "$err" "*job docs*block map*everything is hashed*" "$why: and it is said"
        comes_back docs "$data"
    done
done
why="no block map at all"
rm -r "$map"
status 0 neap -q backup docs
comes_back docs "$data"
why="the block map of an older backup"
cp -a "$map" "$tmp/older"
change
status 0 neap -q backup docs
rm -r "$map"
cp -a "$tmp/older" "$map"
change
status 0 neap -q backup docs
comes_back docs "$data"
why="a folder for a file"
rm -r "$map"
mkdir -p "$map/objects"
neap backup docs >"$tmp/log" 2>&1 || like "$(cat "$tmp/log")" "*$map*" "a block map that cannot be made is named"
rm -rf "$map"
status 0 neap -q backup docs
comes_back docs "$data"
status 0 neap --json backup docs
like "$out" '*"tracker": "btrfs-extents"*' "in the end it is as it was in the beginning"
done_testing
