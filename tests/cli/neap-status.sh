#!/bin/bash
# neap status: ok, problem, corrupt and could-not-check are four answers, and with
# --check four exit statuses.
. "$(dirname "$0")/../lib.sh"
need_cmd python3
need_built neap
need_built neap-restore
neap_tmp
neap() { "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
# Members of job $1, by name; problems as one text.
get() {
    python3 -c '
import json, sys
for j in json.loads(sys.argv[1]):
    if j["job"] == sys.argv[2]:
        v = j.get(sys.argv[3], "none")
        print(" | ".join(v) if isinstance(v, list) else v)' "$out" "$@"
}
data=$tmp/data
mkdir -p "$data"
echo content >"$data/file"
configure() { # SCHEDULE
    cat >"$tmp/neap.yaml" <<YAML
state_dir: $tmp/state
repository: {url: $tmp/repo, encryption: none}
jobs:
  docs: {engine: files, path: $data, snapshot: none${1:+, schedule: '$1'}}
  more: {engine: files, path: $data, snapshot: none}
YAML
}
configure
status 1 neap status --check
like "$err" "*$tmp/repo*" "no repository: named"
status 0 neap init
status 0 neap status
like "$out" "*docs: problem*there is no backup*more: problem*" "without a backup: a problem of both jobs"
status 1 neap status --check
status 0 neap backup docs
status 0 neap status
like "$out" "*docs: unproven*never*neap-restore check docs/latest*" "backed up, never proved: unproven, and what to do"
status 5 neap status docs --check
status 1 neap status --check
what="the worse of two jobs counts" status 1 neap --json status --check
is "$(get docs health) $(get more health)" "unproven problem" "--json has both"
status 2 neap status nope --check
like "$err" "*'nope'*docs*" "an unknown job is no healthy one"

proof() { # RESULT [SECONDS FROM NOW]: a proof of the last backup, put there by hand
    python3 - "$tmp/repo" "$1" "${2:-0}" <<'PY'
import ctypes.util, ctypes, json, os, struct, sys, time
repo, result, at = sys.argv[1], sys.argv[2], time.time() + int(sys.argv[3])
job = "docs"
last = sorted(os.listdir(f"{repo}/backups/{job}"))[-1]
checked = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(at))
name = f"proofs/{job}/{last}/{checked}"
text = json.dumps({"backup": f"{job}/{last}", "checked": checked, "result": result}).encode()
fid = os.urandom(16)
xxh = ctypes.CDLL(ctypes.util.find_library("xxhash"))
class H(ctypes.Structure): _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]
xxh.XXH3_128bits.restype = H
covered = fid + struct.pack("<Q", 0) + name.encode() + text
h = xxh.XXH3_128bits(covered, ctypes.c_size_t(len(covered)))
tag = struct.pack(">QQ", h.high, h.low)
head = b"neapDOC1" + struct.pack("<HBBI", 1, 2, 0, len(text)) + fid + b"\0" + bytes(31)
os.makedirs(os.path.dirname(f"{repo}/{name}"), exist_ok=True)
open(f"{repo}/{name}", "wb").write(head + text + tag)
PY
}
if python3 -c 'import ctypes.util, sys; sys.exit(not ctypes.util.find_library("xxhash"))'; then
    # These are also the documents of docs/format.md, written by another program.
    proof could-not-check 1
    status 5 neap status docs --check
    like "$out" "*could not check*" "a check that could not check proves nothing"
    proof passed 2
    status 0 neap status docs --check
    like "$out" "docs: ok*passed*" "a check that passed: ok"
    is "$(grep -c '!' <<<"$out")" 0 "without a word of complaint"
    proof failed 3
    status 4 neap status docs --check
    like "$out" "docs: corrupt*FAILED*" "one that failed: corrupt, though one passed before"
    what="corrupt is worse than a problem" status 4 neap status --check
    proof passed 4
    status 0 neap status docs --check
else
    what="proofs" skip "python3 finds no libxxhash"
    mkdir -p "$tmp/repo/proofs/docs/x"
fi

# A proof that cannot be read is not one that passed.
last=$(find "$tmp/repo/proofs" -type f | sort | tail -1)
if [ -n "$last" ]; then
    cp "$last" "$tmp/kept"
    printf x | dd of="$last" bs=1 seek=70 conv=notrunc status=none
    status 4 neap status docs --check
    like "$out" "*${last#"$tmp/repo/"}*" "a damaged proof: corrupt, and named"
    cp "$tmp/kept" "$last"
fi

# Late.
configure '*:*'
status 0 neap status docs --check
last=$(find "$tmp/repo/backups/docs" -type f)
old=$tmp/repo/backups/docs/20200101T000000Z
status 0 neap --json status docs
what="the age of the last backup is there" ok [ "$(get docs last_backup_age_s)" -lt 3600 ]

# The last run failed.
mv "$data" "$data.away"
neap backup docs >/dev/null 2>&1
mv "$data.away" "$data"
status 1 neap status docs --check
like "$out" "docs: problem*last run*failed*$data*" "a run that failed is a problem, with its reason"
status 0 neap --json status docs
like "$(get docs problems)" "*$data*" "--json has the reason too"
configure
status 0 neap backup docs
what="a good run later: no problem" ok [ "$(neap status docs --check >/dev/null; echo $?)" != 1 ]

# The record of the last backup.
record=$(find "$tmp/repo/backups/docs" -type f | sort | tail -1)
cp "$record" "$tmp/kept"
printf x | dd of="$record" bs=1 seek=100 conv=notrunc status=none
status 4 neap status docs --check
like "$out" "docs: corrupt*backups/docs/*" "a damaged record: corrupt, and named"
cp "$tmp/kept" "$record"

# Only one job's age counts for it; a record may not be moved to another time.
mv "$record" "$old"
status 4 neap list
like "$out" "*docs/20200101T000000Z*UNREADABLE*" "a record under another name is damaged"
mv "$old" "$record"
rm -r "$tmp/repo/backups/docs"
status 1 neap status docs --check
like "$out" "*there is no backup*" "records that are gone are no backups"
what="the state is not needed" ok rm -r "$tmp/state"
status 1 neap status docs --check
done_testing
