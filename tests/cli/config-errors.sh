#!/bin/bash
# A configuration that is wrong: file, line and key, from both programs, and
# nothing runs before the whole file is right.
. "$(dirname "$0")/../lib.sh"
need_built neap
need_built neap-restore
neap_tmp
yaml=$tmp/neap.yaml
neap() { "$NEAP_BUILD/neap" -c "$yaml" "$@"; }
mkdir "$tmp/data"
good="state_dir: $tmp/state
repository: {url: $tmp/repo, encryption: none}
jobs:
  docs: {engine: files, path: $tmp/data, snapshot: none}"

# wrong PATTERN TEXT: behind "neap: FILE:"
wrong() {
    printf '%s\n' "$2" >"$yaml"
    what="${1:0:60}" status 2 neap init
    like "$err" "neap: $yaml:$1" "is said with file, line and key"
}
wrong "1: *empty*" ""
wrong "1: *empty*" "# a comment alone"
wrong "2: *not YAML*" "repository: {url: /r, encryption: none
jobs: ["
wrong "3: *tab*" "repository: {url: $tmp/repo, encryption: none}
jobs:
	docs: {engine: files, path: /srv}"
wrong "5: nonsense: *" "$good
nonsense: 1"
wrong "5: *second document*" "$good
--- {}"
wrong "1: jobs: *" "jobs: 3
repository: {url: $tmp/repo, encryption: none}"
wrong "*repository*" "jobs: {docs: {engine: files, path: /srv}}"
wrong "2: repository: *second time*first in line 1*" "repository: {url: $tmp/repo, encryption: none}
repository: {url: $tmp/repo, encryption: none}"
wrong "1: repository.url: *relative/path*" "repository: {url: relative/path, encryption: none}"
wrong "1: repository.url: *" "repository: {url: /a/../b, encryption: none}"
wrong "1: repository.url: *" "repository: {url: , encryption: none}"
wrong "1: repository.encryption: *rot13*" "repository: {url: $tmp/repo, encryption: rot13}"
wrong "1: repository: *key*encryption: none*" "repository: {url: $tmp/repo}"
wrong "1: repository: *exclude*" "repository: {url: $tmp/repo, encryption: none, host_key: /k}"
wrong "1: repository.compression: *zstd:99*1 to 19*" "repository: {url: $tmp/repo, encryption: none, compression: zstd:99}"
wrong "1: repository: *s3*" "repository: {url: $tmp/repo, encryption: none, region: here}"

job() { # PATTERN TEXT: in line 4
    wrong "4: jobs.docs$1" "state_dir: $tmp/state
repository: {url: $tmp/repo, encryption: none}
jobs:
  docs: {$2}"
}
job ": *engine*" "path: /srv"
job ".engine: *oracle*" "engine: oracle"
job ": *path*" "engine: files"
job ".path: *" "engine: files, path: srv"
job ".snapshot: *zfs*" "engine: files, path: /srv, snapshot: zfs"
job ".tracker: *guess*" "engine: files, path: /srv, tracker: guess"
job ".schedule: *sometimes*" "engine: files, path: /srv, schedule: sometimes"
job ".keep.hourly: *'abc'*whole number from 0 to 9999*" "engine: files, path: /srv, keep: {hourly: abc}"
job ".keep: *" "engine: files, path: /srv, keep: {last: 0}"
job ": *'check.queries'*" "engine: files, path: /srv, check: {queries: [select 1]}"
job ": *'hold'*" "engine: files, path: /srv, hold: true"
job ".hold_limit: *1h*" "engine: sqlite, path: /srv, hold_limit: 1h"
job ".sample: *101*" "engine: files, path: /srv, sample: 101"
job ".rehash_days: *" "engine: files, path: /srv, rehash_days: 0"
job ": *'hook'*" "engine: files, path: /srv, hook: /bin/true"
job ": *hook*" "engine: script"
job ".pat: *" "engine: files, pat: /srv"
job ": *'connection'*" "engine: files, path: /srv, connection: {port: 1}"
job ".connection.port: *70000*" "engine: postgresql, connection: {port: 70000}"
wrong "4: jobs.*Docs*" "state_dir: $tmp/state
repository: {url: $tmp/repo, encryption: none}
jobs:
  Docs: {engine: files, path: /srv}"
wrong "1: *open brackets*" "a: $(printf '[%.0s' $(seq 5000))"
head -c 3000000 /dev/zero | tr '\0' '#' >"$yaml"
status 2 neap init
like "$err" "*$yaml*larger than*" "a file too large is named"
head -c 1000 /dev/urandom >"$yaml"
status 2 neap init
like "$err" "*$yaml:*not YAML*" "bytes that are no text"
is "$(wc -l <<<"$err")" 1 "are not printed over the terminal"
rm "$yaml"
ln -s "$yaml" "$tmp/loop"
ln -s "$tmp/loop" "$yaml"
status 2 neap init
like "$err" "*$yaml*" "a link in a circle is named"
rm "$yaml"
mkdir "$yaml"
status 2 neap init
like "$err" "*$yaml*directory*" "so is a folder"
rmdir "$yaml"
what="after all that nothing was made" ok [ ! -e "$tmp/repo" -a ! -e "$tmp/state" ]

# Every command of both, and the same words.
printf '%s\n' "$good" "nonsense: 1" >"$yaml"
for c in init "probe docs" "backup docs" list "show docs/latest" "diff a b" status; do
    # shellcheck disable=SC2086 # words
    what="neap $c" status 2 neap $c
    like "$err" "neap: $yaml:5: nonsense: *" "says it"
done
for c in list "extract docs/latest $tmp/x" "mount docs/latest $tmp/data" "check docs/latest" "dump docs/latest --output $tmp/x"; do
    # shellcheck disable=SC2086 # words
    what="neap-restore ${c%% *}" status 2 "$NEAP_BUILD/neap-restore" -c "$yaml" $c
    like "$err" "neap-restore: $yaml:5: nonsense: *" "says it"
done
printf '%s\n' "$good" >"$yaml"
status 0 neap init
what="the example configuration is right" status 1 "$NEAP_BUILD/neap" -c "$NEAP_TOP/config/neap.yaml" list
like "$err" "*/var/backups/neap*" "but for the repository, which is not there"
done_testing
