#!/bin/bash
# neap backup without a snapshot: what it says, what it stores, what it refuses.
. "$(dirname "$0")/../lib.sh"
need_cmd python3 flock
need_built neap
need_built neap-restore
neap_tmp
neap() { "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
restore() { "$NEAP_BUILD/neap-restore" -c "$tmp/neap.yaml" "$@"; }
get() { python3 -c 'import json, sys; print(json.loads(sys.argv[1])[sys.argv[2]])' "$out" "$1"; }
sums() { (cd "$1" && find . -type f -exec sha256sum {} + | sort); }
# Where memory may not be locked, as often without root, that is told.
unasked() { grep -v RLIMIT_MEMLOCK <<<"$err"; }
data=$tmp/data
mkdir -p "$data/sub"
head -c 500000 /dev/urandom >"$data/large"
head -c 5000 /dev/urandom >"$data/sub/small"
cp "$data/large" "$data/twin"
: >"$data/empty"
cat >"$tmp/neap.yaml" <<YAML
state_dir: $tmp/state
repository:
  url: $tmp/repo
  host_key: $tmp/host.key
  recovery_key: $tmp/recovery.key
jobs:
  docs: {engine: files, path: $data, snapshot: none}
  db: {engine: sqlite, path: $tmp/app.db, snapshot: none}
YAML
status 1 neap backup docs
like "$err" "neap: job docs: *$tmp/repo*neap init*" "no repository: job, place and way out"
status 0 neap init

# A dry run first: there is nothing it could build on, and it leaves nothing.
before=$(sums "$tmp/repo")
status 0 neap backup docs --dry-run
like "$out" "docs: would look at *first backup*nothing was stored*" "a dry run says what it would read"
is "$(sums "$tmp/repo")" "$before" "and stores nothing"
status 0 neap list
like "$out" "No backups yet*" "nor is there a backup"

status 0 neap backup docs
like "$out" "docs/20*files*unproven*first backup*" "the first says its name, level and why all was read"
is "$(unasked)" "" "nothing on standard error, which is no terminal"
what="equal files are stored once" ok [ "$(du -sb "$tmp/repo/packs" | cut -f1)" -lt 700000 ]

status 0 neap --json backup docs
what="--json: one document with every promised member" ok python3 -c '
import json, sys
j = json.loads(sys.argv[1])
types = {"backup": str, "job": str, "engine": str, "consistency": str, "tracker": str,
         "hold_ms": int, "logical_bytes": int, "read_bytes": int, "changed_bytes": int,
         "new_bytes": int, "stored_bytes": int, "sampled_blocks": int, "seconds": float}
for k, t in types.items():
    assert isinstance(j[k], t), k
assert j["backup"].startswith("docs/20") and j["job"] == "docs" and j["engine"] == "files", j
assert j["consistency"] == "unproven", j
assert j["logical_bytes"] == 1005000, j
assert j["read_bytes"] >= 1005000, j' "$out"
is "$(unasked)" "" "and nothing else is said"
is "$(get changed_bytes) $(get new_bytes)" "0 0" "nothing changed: nothing is new"

# One block of 4 KiB.
printf 'changed' | dd of="$data/large" bs=1 seek=200000 conv=notrunc status=none
status 0 neap --json backup docs
is "$(get changed_bytes) $(get new_bytes)" "4096 4096" "a changed byte costs its block"
status 0 neap --json backup docs --full-scan
is "$(get changed_bytes)" 0 "a full scan finds nothing more"
like "$(get everything_why)" "?*" "and says why all was read"
status 0 neap --json backup docs --dry-run
is "$(get dry_run)" True "a dry run is told from a backup by --json too"
status 0 neap backup docs --trust-tracker
status 0 neap -q backup docs
is "$err" "" "-q: no word but errors"
status 0 restore extract docs/latest "$tmp/out"
what="what comes back is what was there" ok diff -r "$data" "$tmp/out$data"

# The evidence says that there was no snapshot.
status 0 neap --json show docs/latest
like "$out" '*"consistency": "unproven"*' "the record does not claim more than it can"
like "$out" '*"provider": "none"*' "and has the evidence"

# Refused, and nothing stored or made.
before=$(sums "$tmp/repo")
status 2 neap backup nope
like "$err" "*'nope'*docs*" "an unknown job"
mv "$data" "$data.away"
status 1 neap backup docs
like "$err" "*job docs*$data*No such file*" "a path that went away"
mv "$data.away" "$data"
if python3 -c 'import sqlite3' 2>/dev/null; then
    python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute("create table t(a)")' "$tmp/app.db"
    status 3 neap backup db
    like "$err" "*job db*refused*$tmp/app.db*snapshot: none*" "a database is not copied while it is written to"
fi
exec 9>"$tmp/state/jobs/docs/lock"
flock 9
status 3 neap backup docs
like "$err" "*job docs*another backup*" "two at once: the second is refused"
exec 9>&-
is "$(sums "$tmp/repo")" "$before" "the repository is as it was"

# Keys.
other=$tmp/other
mkdir "$other"
sed "s|$tmp/repo|$other/repo|; s|$tmp/host|$other/host|; s|$tmp/rec|$other/rec|; s|$tmp/state|$other/state|" \
    "$tmp/neap.yaml" >"$other/neap.yaml"
what="another repository" ok "$NEAP_BUILD/neap" -c "$other/neap.yaml" init
cp -p "$tmp/host.key" "$tmp/host.kept"
refused_key() { # PATTERN NAME
    what="$2: 5" status 5 neap backup docs
    like "$err" "neap: job docs: *$tmp/host.key$1" "job, key and reason are named"
    what="$2: list too" status 5 neap list
    like "$err" "*$tmp/host.key$1" "in the same words"
}
cp "$other/host.key" "$tmp/host.key"
refused_key "*is of repository*" "another repository's key"
cp "$tmp/host.kept" "$tmp/host.key"
chmod 644 "$tmp/host.key"
refused_key "*mode 644*chmod 600*" "a key that others may read"
chmod 600 "$tmp/host.key"
head -c 100 "$tmp/host.kept" >"$tmp/host.key"
refused_key "*not a neap key*" "a truncated key"
: >"$tmp/host.key"
refused_key "*not a neap key*" "an empty key"
sed 's/"meta_key": "./"meta_key": "x/' "$tmp/host.kept" >"$tmp/host.key"
refused_key "*not a neap key*" "a key with a digit that is none"
python3 - "$tmp/host.kept" "$tmp/host.key" <<'PY'
import json, sys
j = json.load(open(sys.argv[1]))
j["meta_key"] = ("0" if j["meta_key"][0] != "0" else "1") + j["meta_key"][1:]
json.dump(j, open(sys.argv[2], "w"))
PY
refused_key "*does not fit*" "a key with another digit"
rm "$tmp/host.key"
refused_key "*No such file*" "no key"
is "$(sums "$tmp/repo")" "$before" "nothing was stored under any of them"
cp -p "$tmp/host.kept" "$tmp/host.key"
status 0 neap backup docs

# What root may do and others may not.
if [ "$(id -u)" = 0 ] && setpriv --reuid nobody --regid nogroup --clear-groups \
    test -x "$NEAP_BUILD/neap"; then
    mkdir "$tmp/theirs"
    echo content >"$tmp/theirs/file"
    cat >"$tmp/theirs/neap.yaml" <<YAML
state_dir: $tmp/theirs/state
repository: {url: $tmp/theirs/repo, encryption: none}
jobs:
  docs: {engine: files, path: $tmp/theirs, snapshot: none}
  auto: {engine: files, path: $tmp/theirs}
  secret: {engine: files, path: $tmp/secret, snapshot: none}
YAML
    mkdir "$tmp/secret"
    chmod 700 "$tmp/secret"
    chown -R nobody "$tmp/theirs"
    theirs() {
        setpriv --reuid nobody --regid nogroup --clear-groups \
            "$NEAP_BUILD/neap" -c "$tmp/theirs/neap.yaml" "$@"
    }
    status 0 theirs init
    status 0 theirs backup docs
    status 3 theirs backup auto
    like "$err" "*job auto*refused*$tmp/theirs*" "not root: no snapshot, and so no backup, with a sentence"
    theirs backup secret >"$tmp/log" 2>&1
    what="not root: a folder that cannot be read is no success" ok [ $? -ne 0 ]
    like "$(cat "$tmp/log")" "*$tmp/secret*Permission denied*" "and is named"
    status 1 setpriv --reuid nobody --regid nogroup --clear-groups "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" list
    like "$err" "*$tmp/repo*Permission denied*" "somebody else's repository is not theirs to read"
fi
done_testing
