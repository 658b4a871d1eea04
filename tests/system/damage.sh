#!/bin/bash
# A repository with one damaged file: every kind of file, every kind of damage. The
# documented exit status, the file named, no wrong byte given out as right, what
# does not need the file still works, and nothing in the repository is touched.
. "$(dirname "$0")/../lib.sh"
need_root
need_cmd python3 mountpoint
[ -e /dev/fuse ] || skip_all "no /dev/fuse here"
need_built neap
need_built neap-restore
neap_tmp
neap() { timeout 60 "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
restore() { timeout 60 "$NEAP_BUILD/neap-restore" -q -c "$tmp/neap.yaml" "$@"; }
configure() { # FOLDER
    cat >"$1/neap.yaml" <<YAML
state_dir: $1/state
repository:
  url: $1/repo
  host_key: $1/host.key
  recovery_key: $1/recovery.key
jobs:
  docs: {engine: files, path: $tmp/data, snapshot: none}
  other: {engine: files, path: $tmp/other-data, snapshot: none}
YAML
}
# By any other way than the program under test.
last() { find "$1/repo/backups/$2" -type f -printf '%f\n' | sort | tail -1; }
largest() { find "$1/repo/packs" -type f -printf '%s %P\n' | sort -n | tail -1 | cut -d' ' -f2; }
first_map() {
    "$NEAP_BUILD/neap" -c "$1/neap.yaml" --json show "$2" |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["maps"][0]["id"])'
}

# ---- two repositories of the same data ----
mkdir -p "$tmp/data/sub" "$tmp/other-data" "$tmp/foreign"
head -c 400000 /dev/urandom >"$tmp/data/large"
head -c 150000 /dev/urandom >"$tmp/data/sub/middle"
head -c 3000 /dev/urandom >"$tmp/data/sub/small"
head -c 500000 /dev/urandom >"$tmp/other-data/large"
make() { # FOLDER
    local at=$1
    configure "$at"
    n() { "$NEAP_BUILD/neap" -q -c "$at/neap.yaml" "$@" >/dev/null; }
    ok n init
    ok n backup docs
    ok n backup other
}
make "$tmp/foreign"
make "$tmp"
cp -a "$tmp/data" "$tmp/data-first"
printf 'changed' | dd of="$tmp/data/large" bs=1 seek=100000 conv=notrunc status=none
head -c 20000 /dev/urandom >"$tmp/data/new"
for at in "$tmp/foreign" "$tmp"; do
    ok n backup docs
    ok "$NEAP_BUILD/neap-restore" -q -c "$at/neap.yaml" check docs/latest
done
first=docs/$(find "$tmp/repo/backups/docs" -type f -printf '%f\n' | sort | head -1)
second=docs/$(last "$tmp" docs)
pack=packs/$(largest "$tmp")
[ "$(stat -c %s "$tmp/repo/$pack")" -gt 540000 ] || echo "# the largest pack is not that of docs"
newest_index() { find "$1/repo/index" -type f -printf '%T@ %f\n' | sort -n | tail -1 | cut -d' ' -f2; }
index=index/$(newest_index "$tmp")
map=maps/$(first_map "$tmp" "$second")
record=backups/$second
proof=$(cd "$tmp/repo" && find proofs -type f)
other_pack=packs/$(cd "$tmp/repo/packs" && find . -type f -size +480k -size -520k -printf '%P\n')
other_map=maps/$(first_map "$tmp" other/latest)
old_index=index/$(find "$tmp/repo/index" -type f -printf '%T@ %f\n' | sort -n | head -1 | cut -d' ' -f2)
is "$(stat -c %F "$tmp/repo/$other_pack" "$tmp/repo/$other_map" | sort -u)" "regular file" "the other job has files of its own"

# The same kind of file, of another repository / of another thing of this one.
declare -A foreign=([pack]=packs/$(largest "$tmp/foreign") [index]=index/$(newest_index "$tmp/foreign")
    [map]=maps/$(first_map "$tmp/foreign" docs/latest) [record]=backups/docs/$(last "$tmp/foreign" docs)
    [proof]=$(cd "$tmp/foreign/repo" && find proofs -type f))
declare -A sibling=([pack]=$other_pack [index]=$old_index [map]=$other_map [record]=backups/$first [proof]=$record)

flip() { # FILE WHERE(0..100): one bit
    python3 - "$1" "$2" <<'PY'
import os, sys
size = os.path.getsize(sys.argv[1])
at = min(size - 1, size * int(sys.argv[2]) // 100) if sys.argv[2] != "0" else 3
with open(sys.argv[1], "r+b") as f:
    f.seek(at); b = f.read(1)[0]
    f.seek(at); f.write(bytes([b ^ 4]))
PY
}
damage() { # FILE HOW KIND
    local size
    size=$(stat -c %s "$1")
    case $2 in
    missing) rm "$1" ;;
    empty) : >"$1" ;;
    half) truncate -s $((size / 2)) "$1" ;;
    minus1) truncate -s $((size - 1)) "$1" ;;
    longer) printf 'x' >>"$1" ;;
    flip-head) flip "$1" 0 ;;
    flip-mid) flip "$1" 50 ;;
    flip-end) flip "$1" 100 ;;
    foreign) cat "$tmp/foreign/repo/${foreign[$3]}" >"$1" ;;
    sibling) cat "$tmp/keep/repo/${sibling[$3]}" >"$1" ;;
    esac
}
sums() { (cd "$1" && find . -type f -exec sha256sum {} + | sort -k 2); }
mkdir "$tmp/keep"
cp -a "$tmp/repo" "$tmp/keep"

# run WANTED COMMAND…: one of the digits is its status; an error names $file. What
# is wrong goes to $bad.
bad=
run() {
    local want=$1 rc
    shift
    "$@" >"$tmp/out" 2>"$tmp/err"
    rc=$?
    [[ $want == *$rc* ]] || bad+="status $rc, not $want: $*: $(tail -3 "$tmp/err")"$'\n'
    [ $rc = 0 ] || [ -s "$tmp/err" ] || bad+="no word: $*"$'\n'
    [ $rc = 0 ] || grep -q -F -e "$file" -e "$also" "$tmp/err" ||
        bad+="$file is not named: $*: $(cat "$tmp/err")"$'\n'
    status=$rc
}
# extract WANTED BACKUP ORIGINAL: and each file is right, or named as damaged.
extract() {
    local f to=$tmp/extracted
    rm -rf "$to"
    run "$1" restore extract "$2" "$to"
    while IFS= read -r f; do
        cmp -s "$3/$f" "$to${3/-first/}/$f" && continue
        [ "$status" = 0 ] && bad+="WRONG DATA and status 0: $2 $f"$'\n'
        # Where nothing at all was written there is nothing wrong.
        [ ! -e "$to${3/-first/}/$f" ] || grep -q -F "/$f: " "$tmp/err" ||
            bad+="wrong and not named: $2 $f: $(cat "$tmp/err")"$'\n'
    done < <(cd "$3" && find . -type f -printf '%P\n')
}
mkdir "$tmp/mnt"
on_exit eval '! mountpoint -q "$tmp/mnt" || umount -l "$tmp/mnt"'
mounted() { # WANTED: mount, and read all
    run "$1" restore mount "$second" "$tmp/mnt"
    [ "$status" = 0 ] || return 0
    if cat "$tmp/mnt$tmp/data/large" "$tmp/mnt$tmp/data/sub/middle" >"$tmp/read" 2>"$tmp/err"; then
        cmp -s "$tmp/read" <(cat "$tmp/data/large" "$tmp/data/sub/middle") ||
            bad+="WRONG DATA through the mount"$'\n'
    else
        grep -q "Input/output error" "$tmp/err" || bad+="mount: $(cat "$tmp/err")"$'\n'
    fi
    restore unmount "$tmp/mnt"
}
said() { "$@" >&2; } # status says it on standard output
cell() { # KIND HOW FILE COMMANDS…
    local kind=$1 how=$2 before left
    file=$3 also=$3
    bad=
    [ "$kind $how" != "proof missing" ] || also="never"
    damage "$tmp/repo/$file" "$how" "$kind"
    before=$(sums "$tmp/repo")
    "expect_$kind" "$how"
    # A check that failed leaves its proof: that is what it is for.
    find "$tmp/repo/proofs" -type f -newer "$tmp/stamp" ! -path "$tmp/repo/$proof" -delete
    left=$(sums "$tmp/repo")
    [ "$before" = "$left" ] || bad+="the repository was touched: $(diff <(echo "$before") <(echo "$left"))"$'\n'
    cat "$tmp/keep/repo/$file" >"$tmp/repo/$file"
    what="$kind $how" ok [ -z "$bad" ]
    [ -z "$bad" ] || diag "$bad"
}
touch "$tmp/stamp"
all_how="missing empty half minus1 flip-head flip-mid flip-end foreign sibling"

# ---- what is expected ----
thoroughly() { # WHETHER…: the dear commands are run for two kinds of damage only
    [ "$1" = missing ] || [ "$1" = flip-mid ]
}
expect_pack() {
    local want=4
    # The trailer tells the index what is in the pack; a restore does not need it.
    case $1 in minus1 | flip-end) want=0 ;; esac
    extract $want "$second" "$tmp/data"
    extract 0 other/latest "$tmp/other-data"
    thoroughly "$1" || return 0
    extract $want "$first" "$tmp/data-first"
    run 0 neap list
    run 0 neap show "$second"
    run 0 neap diff "$first" "$second"
    run 4 restore check "$second"
    mounted 0
}
expect_index() {
    also="is not in the index" # that is what a missing segment comes to
    extract 4 "$second" "$tmp/data"
    thoroughly "$1" || return 0
    run 0 neap list
    run 0 neap show "$second"
    run 0 neap diff "$first" "$second"
    run 4 restore check "$second"
    [ "$1" = missing ] || mounted 4
}
expect_map() {
    extract 4 "$second" "$tmp/data"
    run 4 neap diff "$first" "$second"
    thoroughly "$1" || return 0
    extract 0 other/latest "$tmp/other-data"
    run 0 neap list
    run 0 neap show "$second"
    run 4 restore check "$second"
    mounted 04 # frames are looked into when they are needed
}
expect_record() {
    local want=4 listed=4
    also=$second
    [ "$1" != missing ] || want=1 listed=0
    run $listed neap list
    run $want neap show "$second"
    extract $want "$second" "$tmp/data"
    [ "$1" = missing ] || run 4 said neap status docs --check
    thoroughly "$1" || return 0
    run $listed restore list
    run $want neap diff "$first" "$second"
    extract 0 "$first" "$tmp/data-first"
    extract 0 other/latest "$tmp/other-data"
    run $want restore mount "$second" "$tmp/mnt"
}
expect_proof() {
    run $([ "$1" = missing ] && echo 5 || echo 4) said neap status docs --check
    thoroughly "$1" || return 0
    run 0 neap list
    extract 0 "$second" "$tmp/data"
}
for kind in pack index map record proof; do
    for how in $all_how; do
        cell $kind "$how" "${!kind}"
    done
done
# Segments that another one contains are not read any more.
if [ "$old_index" != "$index" ]; then
    file=$old_index also=$old_index bad=
    flip "$tmp/repo/$old_index" 50
    extract 0 "$second" "$tmp/data"
    cat "$tmp/keep/repo/$old_index" >"$tmp/repo/$old_index"
    what="a contained segment does not matter" ok [ -z "$bad" ]
    [ -z "$bad" ] || diag "$bad"
fi

# ---- neap.json ----
json_cell() { # WANTED NAME PYTHON
    file=neap.json also="$tmp/repo"
    bad=
    python3 -c "
import json, sys
p = sys.argv[1]
s = open(p).read()
j = json.loads(s)
def digit(k): j[k] = ('0' if j[k][0] != '0' else '1') + j[k][1:]
$3
open(p, 'w').write(s if s is not None else json.dumps(j))" "$tmp/repo/neap.json"
    before=$(sums "$tmp/repo")
    run "$1" neap list
    run "$1" neap backup docs
    run "$1" restore extract "$second" "$tmp/extracted2"
    [ ! -e "$tmp/extracted2$tmp" ] || bad+="something was extracted"$'\n'
    [ "$before" = "$(sums "$tmp/repo")" ] || bad+="the repository was touched"$'\n'
    cat "$tmp/keep/repo/neap.json" >"$tmp/repo/neap.json"
    what="neap.json: $2" ok [ -z "$bad" ]
    [ -z "$bad" ] || diag "$bad"
}
json_cell 4 "empty" "s = ''"
json_cell 4 "half" "s = s[:len(s) // 2]"
json_cell 4 "without its end" "s = s.rstrip()[:-1]"
json_cell 4 "a bit in its first line" "s = s[:3] + chr(ord(s[3]) ^ 4) + s[4:]"
json_cell 5 "another id" "digit('id'); s = None"
json_cell 5 "another key check" "digit('key_check'); s = None"
json_cell 5 "another public key" "digit('public_key'); s = None"
json_cell 4 "other blocks" "j['block_bytes'] = 512; s = None"
json_cell 4 "no digest" "del j['digest']; s = None"
json_cell 1 "a digest of another version" "j['digest'] = 'hmac-sha256'; s = None"
json_cell 45 "no key check" "del j['key_check']; s = None"
json_cell 5 "encryption off: a key is not to be ignored" \
    "j['encryption'] = 'none'; j['digest'] = 'sha256-blocks'; s = None"
json_cell 5 "of another repository" "s = open('$tmp/foreign/repo/neap.json').read()"
rm "$tmp/repo/neap.json"
status 1 neap list
like "$err" "*$tmp/repo*neap init*" "no neap.json: no repository, said so"
status 1 neap init
like "$err" "*exists already*" "and init does not make a new one over the old"
cat "$tmp/keep/repo/neap.json" >"$tmp/repo/neap.json"
is "$(sums "$tmp/repo")" "$(sums "$tmp/keep/repo")" "after all this the repository is what it was"

# ---- keys, for reading ----
status 5 restore -r "$tmp/repo" --key "$tmp/host.key" extract "$second" "$tmp/x"
like "$err" "*$tmp/repo*recovery key*" "the host's key reads nothing back, and which one does"
status 5 restore -r "$tmp/repo" --key "$tmp/foreign/recovery.key" extract "$second" "$tmp/x"
like "$err" "*$tmp/foreign/recovery.key*" "another repository's key is named"
status 5 restore -r "$tmp/repo" extract "$second" "$tmp/x"
like "$err" "*$tmp/repo*no key*" "no key at all"
status 5 restore -r "$tmp/repo" --key "$tmp/no.key" extract "$second" "$tmp/x"
like "$err" "*$tmp/no.key*" "a key that is not there"
what="nothing was extracted by them" ok [ ! -e "$tmp/x$tmp" ]
done_testing
