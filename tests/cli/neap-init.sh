#!/bin/bash
# neap init: what it makes, with which rights, and what it never replaces.
. "$(dirname "$0")/../lib.sh"
need_cmd python3
need_built neap
need_built neap-restore
neap_tmp
neap() { "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
restore() { "$NEAP_BUILD/neap-restore" "$@"; }
sums() { (cd "$tmp" && find . -type f -exec sha256sum {} + | sort); }
configure() { # LINE… below repository:
    {
        echo "state_dir: $tmp/state"
        echo "repository:"
        printf '  %s\n' "$@"
        echo "jobs: {docs: {engine: files, path: $tmp/data, snapshot: none}}"
    } >"$tmp/neap.yaml"
}
mkdir "$tmp/data"
echo content >"$tmp/data/file"

configure "url: $tmp/deep/er/repo" "host_key: $tmp/keys/host.key" "recovery_key: $tmp/keys/recovery.key"
status 1 neap list
like "$err" "*$tmp/deep/er/repo*neap init*" "without a repository: it is named, and the way to one"
status 0 neap init
is "$err" "" "nothing on standard error"
like "$out" "*$tmp/deep/er/repo*" "it says what it made"
like "$out" "*$tmp/keys/recovery.key*off this host*Without it no backup can ever be restored*" \
    "and which key to keep where, and why"
is "$(stat -c %a "$tmp/keys/host.key" "$tmp/keys/recovery.key" | tr '\n' ' ')" "600 600 " \
    "keys are for their owner alone"
is "$(stat -c %a "$tmp/deep/er/repo")" 700 "so is the repository"
private() { grep -c private_key "$1"; }
is "$(private "$tmp/keys/host.key") $(private "$tmp/keys/recovery.key")" "0 1" \
    "the host's key cannot read anything back"
public=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["private_key"])' "$tmp/keys/recovery.key")
what="the private key is nowhere in the repository" ok \
    bash -c '! grep -rq "$1" "$2"' - "$public" "$tmp/deep"
status 0 neap backup docs

# What is there stays.
before=$(sums)
status 1 neap init
like "$err" "*$tmp/keys/host.key*exists already*never replaced*" "a second init names the key that is there"
is "$(sums)" "$before" "and touches nothing"
mv "$tmp/keys" "$tmp/kept"
status 1 neap init
like "$err" "*$tmp/deep/er/repo*" "without the keys the repository stops it"
what="no new keys were left" ok [ ! -e "$tmp/keys/host.key" ]
mkdir -p "$tmp/keys"
cp "$tmp/kept/recovery.key" "$tmp/keys"
status 1 neap init
like "$err" "*$tmp/keys/recovery.key*exists already*" "one key that is there is enough to stop"
what="and the other is not made" ok [ ! -e "$tmp/keys/host.key" ]
mkdir "$tmp/full"
echo mine >"$tmp/full/file"
rm -r "$tmp/keys"
configure "url: $tmp/full" "host_key: $tmp/keys/host.key" "recovery_key: $tmp/keys/recovery.key"
status 1 neap init
like "$err" "*$tmp/full*not empty*file*" "a folder with other files in it is none for a repository"
is "$(ls -A "$tmp/full")" file "and stays as it was"
rmdir "$tmp/keys" 2>/dev/null
what="no keys either" ok [ ! -e "$tmp/keys" ]

# What is asked for must be possible.
configure "url: $tmp/one" "host_key: $tmp/h2"
status 2 neap init
like "$err" "*neap.yaml*host_key*recovery_key*both*" "one key file alone is refused"
configure "url: s3://bucket/prefix" "host_key: $tmp/h2" "recovery_key: $tmp/r2"
neap init >/dev/null 2>"$tmp/err"
what="an s3 url: an error" ok [ $? -ne 0 ]
like "$(cat "$tmp/err")" "*s3*" "which names it"
echo file >"$tmp/a-file"
configure "url: $tmp/a-file" "host_key: $tmp/h2" "recovery_key: $tmp/r2"
status 1 neap init
like "$err" "*$tmp/a-file*" "a file in the repository's place is named"
configure "url: $tmp/a-file/below" "host_key: $tmp/h2" "recovery_key: $tmp/r2"
status 1 neap init
like "$err" "*$tmp/a-file*" "and in the place of a folder above"
what="no keys were made for nothing" ok [ ! -e "$tmp/h2" -a ! -e "$tmp/r2" ]

# Passphrase.
configure "url: $tmp/worded" "host_key: $tmp/h3" "recovery_key: $tmp/r3"
status 1 neap init --passphrase-file "$tmp/no-such-file"
like "$err" "*$tmp/no-such-file*" "a passphrase file that is not there is named"
echo short >"$tmp/words"
status 2 neap init --passphrase-file "$tmp/words"
like "$err" "*$tmp/words*too few*" "a passphrase that is too short is refused"
like "$err" "*[!a-z]5 characters*" "without saying it"
what="nothing was made" ok [ ! -e "$tmp/worded/neap.json" -a ! -e "$tmp/h3" ]
printf 'five words make a passphrase\nnot this line\n' >"$tmp/words"
status 0 neap --json init --passphrase-file "$tmp/words"
what="--json prints one document" ok python3 -c '
import json, sys
j = json.loads(sys.argv[1])
assert j["encrypted"] is True and j["repository"].endswith("/worded"), j' "$out"
status 0 neap backup docs
printf 'five words make a passphrase\n' >"$tmp/right"
printf 'five words make a mistake\n' >"$tmp/wrong"
status 0 restore -r "$tmp/worded" --passphrase-file "$tmp/right" extract docs/latest "$tmp/out"
what="the passphrase reads it back" ok cmp "$tmp/data/file" "$tmp/out$tmp/data/file"
status 0 restore -r "$tmp/worded" --passphrase-file "$tmp/words" list
status 5 restore -r "$tmp/worded" --passphrase-file "$tmp/wrong" extract docs/latest "$tmp/out2"
like "$err" "*$tmp/worded*passphrase does not open*" "a wrong one: could not check, said so"
what="and nothing is extracted" ok [ ! -e "$tmp/out2$tmp/data" ]
status 5 restore -r "$tmp/deep/er/repo" --passphrase-file "$tmp/right" list
like "$err" "*$tmp/deep/er/repo*key*passphrase*" "a repository without a passphrase says so"

# Without encryption.
configure "url: $tmp/plain" "encryption: none"
status 0 neap init
like "$out" "*NOT encrypted*" "without encryption: it is said plainly"
status 0 neap backup docs
status 0 restore -r "$tmp/plain" extract docs/latest "$tmp/out3"
what="it is read back without a key" ok cmp "$tmp/data/file" "$tmp/out3$tmp/data/file"
status 1 neap init
like "$err" "*$tmp/plain*there is one already*" "and is not made twice"
done_testing
