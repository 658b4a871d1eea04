#!/bin/bash
# neap list, show and diff: how backups are named, and what is said of them.
. "$(dirname "$0")/../lib.sh"
need_cmd python3
need_built neap
neap_tmp
neap() { "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
name() { python3 -c 'import json, sys; print(json.loads(sys.argv[1])["backup"])' "$out"; }
data=$tmp/data
mkdir -p "$data/sub"
head -c 100000 /dev/urandom >"$data/changes"
echo one >"$data/goes"
echo two >"$data/sub/stays"
echo three >"$data/changes its mode"
cat >"$tmp/neap.yaml" <<YAML
state_dir: $tmp/state
repository: {url: $tmp/repo, encryption: none}
jobs:
  docs: {engine: files, path: $data, snapshot: none}
  docs2: {engine: files, path: $data/sub, snapshot: none}
  never: {engine: files, path: $data, snapshot: none}
YAML
status 0 neap init
status 0 neap list
is "$out" "No backups yet." "an empty repository has no backups"
status 0 neap --json list
is "$out" "[]" "and as JSON none either"
status 1 neap show docs/latest
like "$err" "*docs/latest*none at all*" "nothing can be shown of it"

status 0 neap --json backup docs
first=$(name)
printf 'new' | dd of="$data/changes" bs=1 seek=50000 conv=notrunc status=none
rm "$data/goes"
echo four >"$data/comes"
printf 'x' >"$data/$(printf 'odd\nname\x1b')"
chmod 600 "$data/changes its mode"
status 0 neap --json backup docs
second=$(name)
status 0 neap --json backup docs2
third=$(name)

status 0 neap list
is "$(tail -n +2 <<<"$out" | awk '{print $1}' | tr '\n' ' ')" "$first $second $third " \
    "list has all, by job and time"
is "$(awk 'length($0) > 100' <<<"$out")" "" "in rows that fit a terminal"
status 0 neap list docs2
is "$(tail -n +2 <<<"$out" | wc -l)" 1 "list of one job has its own alone, not those of docs"
status 0 neap list never
is "$out" "No backups yet." "a job without backups has none"
status 2 neap list nope
like "$err" "*'nope'*docs*" "an unknown job is a mistake, no empty list"
status 0 neap --json list docs
what="--json: one document" ok python3 -c '
import json, sys
rows = json.loads(sys.argv[1])
assert [r["backup"] for r in rows] == sys.argv[2:], rows
for r in rows:
    assert r["job"] == "docs" and r["engine"] == "files" and r["consistency"] == "unproven", r
    assert r["logical_bytes"] > 100000, r' "$out" "$first" "$second"

# Names.
status 0 neap show "$first"
like "$out" "$first*files*unproven*$data*" "show has name, engine, level and path"
status 0 neap --json show docs/latest
what="latest is the last one; the record is whole" ok python3 -c '
import json, sys
j = json.loads(sys.argv[1])
assert j["backup"] == sys.argv[2], j["backup"]
for k in "format job time host neap_version engine consistency evidence probe paths maps next_object parent tracker stats".split():
    assert k in j, k' "$out" "$second"
status 0 neap show "${third%??}"
like "$out" "$third*" "a unique beginning is enough"
status 2 neap show docs/2
like "$err" "*docs/2 is not one backup but 2*$first*" "one that is not unique names the candidates"
status 1 neap show docs/2001
like "$err" "*no backup docs/2001*$first*" "one that is not there names those there are"
status 1 neap show never/latest
like "$err" "*never/latest*" "latest of a job without backups"
for odd in "" / .. ../../../etc/passwd "docs/../docs/latest" "$second/" "docs//latest" "$(printf 'x%.0s' $(seq 5000))"; do
    "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" show "$odd" >"$tmp/out" 2>&1
    rc=$?
    what="a name that is none: '${odd:0:24}'" ok [ $rc = 1 -o $rc = 2 ]
done

# Differences.
status 0 neap diff "$first" "$second"
like "$out" "*M *4.1 kB *$data/changes
*" "diff: a changed file, by its changed blocks"
like "$out" "*- *$data/goes
*" "one that went"
like "$out" "*+ *$data/comes
*" "one that came"
like "$out" "*a *$data/changes its mode
*" "one of which the mode changed"
like "$out" '*odd\\012name\\033*' "control characters do not reach the terminal"
what="what stayed is not named" ok bash -c '! grep -q stays <<<"$1"' - "$out"
like "$out" "*paths differ,*" "and a summary"
status 0 neap --json diff "$first" "$second"
what="--json: one document" ok python3 -c '
import json, sys
rows = {r["path"]: r for r in json.loads(sys.argv[1])}
d = sys.argv[2]
assert rows[d + "/changes"]["change"] == "content" and rows[d + "/changes"]["bytes"] == 4096, rows
assert rows[d + "/goes"]["change"] == "removed", rows
assert rows[d + "/comes"]["change"] == "added", rows
assert rows[d + "/changes its mode"]["change"] == "attributes", rows
assert d + "/sub/stays" not in rows, rows' "$out" "$data"
status 0 neap --json diff "$second" "$first"
what="the other way round what came went" ok python3 -c '
import json, sys
rows = {r["path"]: r["change"] for r in json.loads(sys.argv[1])}
assert rows[sys.argv[2] + "/comes"] == "removed" and rows[sys.argv[2] + "/goes"] == "added", rows' "$out" "$data"
status 0 neap diff "$first" "$first"
like "$out" "0 paths differ*" "a backup does not differ from itself"
status 0 neap --json diff "$first" "$first"
is "$out" "[]" "and as JSON neither"
status 0 neap diff "$first" "$third"
status 1 neap diff "$first" docs/2001
like "$err" "*docs/2001*" "the backup that is not there is the one that is named"

# One record cannot be read: the others can, and the status tells.
printf x | dd of="$tmp/repo/backups/$first" bs=1 seek=100 conv=notrunc status=none
status 4 neap list
like "$out" "*$first*UNREADABLE*$second*$third*" "list shows the damaged one as such, and the others"
like "$err" "*backups/$first*" "its file is named"
status 4 neap --json list
what="--json too" ok python3 -c '
import json, sys
rows = json.loads(sys.argv[1])
assert len(rows) == 3 and ["error" in r for r in rows] == [True, False, False], rows' "$out"
status 4 neap show "$first"
status 4 neap diff "$first" "$second"
status 0 neap show "$second"
status 0 neap list docs2
done_testing
