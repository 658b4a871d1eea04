#!/bin/bash
# neap probe: what would be backed up, how, and every reason not to.
. "$(dirname "$0")/../lib.sh"
need_cmd python3
need_built neap
neap_tmp
neap() { "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
data=$tmp/data
mkdir -p "$data"
echo content >"$data/file"
ln -s "$data" "$tmp/link"
printf '#!/bin/sh\nexit 1\n' >"$tmp/broken-hook"
printf '#!/bin/sh\necho nonsense\n' >"$tmp/babbling-hook"
printf '#!/bin/sh\n[ "$1" != probe ] || echo %s\n' \
    "'{\"engine\": \"mine\", \"version\": \"7\", \"paths\": [{\"path\": \"$data\", \"role\": \"data\"}], \"refuse\": [\"the moon is full\", \"so am I\"], \"notes\": []}'" \
    >"$tmp/refusing-hook"
chmod 755 "$tmp"/*-hook
cat >"$tmp/neap.yaml" <<YAML
state_dir: $tmp/state
repository: {url: $tmp/repo, encryption: none}
jobs:
  docs: {engine: files, path: $data, snapshot: none}
  linked: {engine: files, path: $tmp/link, snapshot: none}
  gone: {engine: files, path: $tmp/not-there, snapshot: none}
  frozen: {engine: files, path: $data, snapshot: btrfs}
  thin: {engine: files, path: $data, snapshot: lvm_thin}
  db: {engine: sqlite, path: $tmp/no.db}
  pg: {engine: postgresql, run_as: $(id -un), connection: {socket: $tmp, port: 9}}
  hookless: {engine: mariadb}
  broken: {engine: script, hook: $tmp/broken-hook}
  babbling: {engine: script, hook: $tmp/babbling-hook}
  refusing: {engine: script, hook: $tmp/refusing-hook, snapshot: none}
  nohook: {engine: script, hook: $tmp/no-hook}
  nobody: {engine: files, path: $data, snapshot: none, run_as: no-such-user}
YAML

status 0 neap probe docs
like "$out" "*docs*files*$data*without a snapshot*\"unproven\"*" \
    "engine, path, how and how consistent are said"
status 0 neap --json probe docs
what="--json prints one document" ok python3 -c '
import json, sys
j = json.loads(sys.argv[1])
assert j["job"] == "docs" and j["consistency"] == "unproven", j
assert [p["path"] for p in j["paths"]] == [sys.argv[2]], j
assert j["refusals"] == [], j' "$out" "$data"
is "$err" "" "and nothing on standard error"
what="it changes nothing: neither state nor repository is made" ok \
    [ ! -e "$tmp/state" -a ! -e "$tmp/repo" ]

status 2 neap probe nope
like "$err" "*'nope'*$tmp/neap.yaml*docs*" "an unknown job: named, with file and those there are"
status 1 neap probe gone
like "$err" "*job gone*$tmp/not-there*No such file*" "a path that is not there"
if [ "$(stat -f -c %T "$tmp")" = btrfs ]; then
    what="no btrfs" skip "$tmp is on btrfs"
else
    status 3 neap probe frozen
    like "$out$err" "*$data*btrfs*" "btrfs asked for and not there: refused, path and why"
    status 3 neap --json probe frozen
    what="--json has the refusal" ok python3 -c '
import json, sys
assert "btrfs" in json.loads(sys.argv[1])["refusals"][0]' "$out"
    sed -i 's/snapshot: btrfs/snapshot: auto/' "$tmp/neap.yaml"
    status 3 neap probe frozen
    like "$out$err" "*$data*" "auto never means: without a snapshot"
fi
neap probe thin >"$tmp/out" 2>&1
what="a provider that this version has not is no success" ok [ $? -ne 0 ]
like "$(cat "$tmp/out")" "*lvm_thin*" "and is named"
status 1 neap probe db
like "$err" "*job db*$tmp/no.db*" "a database that is not there is named"
status 1 neap probe pg
like "$err" "*job pg*$tmp*" "an engine that is down: job and socket are named"
neap probe hookless >"$tmp/out" 2>&1
what="an engine without a hook is no success" ok [ $? -ne 0 ]
like "$(cat "$tmp/out")" "*job hookless*mariadb*" "and is named"
status 1 neap probe broken
like "$err" "*job broken*$tmp/broken-hook*" "a hook that fails is named"
status 1 neap probe babbling
like "$err" "*job babbling*$tmp/babbling-hook*" "so is one that answers nonsense"
neap probe nohook >"$tmp/out" 2>&1
what="a hook that is not there is no success" ok [ $? -ne 0 ]
like "$(cat "$tmp/out")" "*job nohook*$tmp/no-hook*" "and is named"
status 3 neap probe refusing
like "$out" "*the moon is full*so am I*" "all that the hook refuses is said at once"
status 0 neap probe linked
like "$out" "*$data*" "a link is followed to where the data lies"
if [ "$(id -u)" = 0 ]; then
    status 2 neap probe nobody
    like "$err" "*job nobody*no-such-user*run_as*" "a user that is not there is named"
fi
what="after all that still nothing is made" ok [ ! -e "$tmp/state" -a ! -e "$tmp/repo" ]
done_testing
