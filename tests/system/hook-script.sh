#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The example in neap-hook(7) keeps what the page promises, and so does the
# hook for plain files.
# tmp, out and err come from the library.
# shellcheck disable=SC2154
. "$(dirname "$0")/../lib.sh"
need_cmd jq flock
need_built hooks/files
neap_tmp
field() { jq -r "$1" <<<"$out"; }

# ---- the example, as printed, for a folder of ours ----
mkdir "$tmp/tally" "$tmp/clone" "$tmp/run"
sed -n '/^#!\/bin\/bash$/,/^\.Ed$/p' "$NEAP_TOP/docs/man/neap-hook.7" |
    sed -e '/^\.Ed$/d' -e 's/\\e/\\/g' -e "s|^data=.*|data=$tmp/tally|" \
        >"$tmp/hook"
chmod +x "$tmp/hook"
echo '{"total": 7}' >"$tmp/tally/tally.json"
export NEAP_HOOK_CONFIG='{"engine":"script"}'
what="probe" status 0 "$tmp/hook" probe
is "$(field '.paths[0].path')" "$tmp/tally" "probe: the folder"

mkfifo "$tmp/in" "$tmp/out"
hold() { # DEADLINE_MS
    "$tmp/hook" quiesce --id x --deadline-ms "$1" <"$tmp/in" >"$tmp/out" &
    hook_pid=$!
    exec {in}>"$tmp/in" {from}<"$tmp/out"
    read -r -t 20 out <&"$from"
}
end_hold() {
    wait "$hook_pid"
    local rc=$?
    exec {in}>&- {from}<&-
    return "$rc"
}
locked() { ! flock -n "$tmp/tally/.lock" true; }
hold 60000
is "$(field .level)" locked "quiesce: locked"
what="quiesce: no writer in" ok locked
echo RELEASE >&"$in"
read -r -t 20 out <&"$from"
is "$(field .still_held)" true "release: it was held"
end_hold
is "$?" 0 "release: ends with 0"
what="release: writers are in again" ok flock -n "$tmp/tally/.lock" true

hold 60000
exec {in}>&- # neap dies
read -r -t 20 out <&"$from"
is "$(field .still_held)" false "end of file: not held"
wait "$hook_pid"
exec {from}<&-
what="end of file: writers are in again" ok flock -n "$tmp/tally/.lock" true
hold 100
read -r -t 20 out <&"$from"
is "$(field .still_held)" false "deadline: not held"
end_hold
exec 8>>"$tmp/tally/.lock"
flock -x 8
what="busy" status 75 "$tmp/hook" quiesce --id x --deadline-ms 1000 </dev/null
exec 8>&-
what="thaw" status 0 "$tmp/hook" thaw --id x

mkdir -p "$tmp/clone$tmp"
cp -a "$tmp/tally" "$tmp/clone$tmp/"
v=("$tmp/hook" validate --id x --clone "$tmp/clone" --run "$tmp/run")
what="validate: passes" status 0 "${v[@]}"
is "$(field .state)" passed "validate: says so"
what="dump" status 0 "$tmp/hook" dump --clone "$tmp/clone" --run "$tmp/run" \
    --output "$tmp/dump"
what="dump: whole" ok cmp "$tmp/tally/tally.json" "$tmp/dump"
echo '{"tot' >"$tmp/clone$tmp/tally/tally.json"
what="validate: finds damage" status 4 "${v[@]}"
rm "$tmp/clone$tmp/tally/tally.json"
what="validate: could not check" status 5 "${v[@]}"
what="no such verb" status 69 "$tmp/hook" dance

# ---- plain files ----
mkdir -p "$tmp/docs/sub"
head -c 3000000 /dev/urandom >"$tmp/docs/big"
ln -s nowhere "$tmp/docs/link"
echo x >"$tmp/docs/sub/x"
ln -s "$tmp/docs" "$tmp/docs-link"
config=$(jq -nc --arg p "$tmp/docs-link" '{engine: "files", path: $p}')
what="files: probe" status 0 hook files probe
is "$(field '.paths[0].path')" "$tmp/docs" "files: the real path"
config=$(jq -c --argjson p "$out" '. + {probe: $p}' <<<"$config")
what="files: quiesce" status 0 hook files quiesce --deadline-ms 60000 \
    <<<RELEASE
is "$(tail -1 <<<"$out" | jq -c '[.state, .still_held]')" \
    '["released",true]' "files: released"
cp -a "$tmp/docs" "$tmp/clone$tmp/"
v=(hook files validate --clone "$tmp/clone" --run "$tmp/run")
what="files: validate" status 0 "${v[@]}"
is "$(field '"\(.files) \(.bytes)"')" "2 3000002" "files: counts"
rm -rf "$tmp/clone$tmp/docs"
what="files: no copy could not be checked" status 5 "${v[@]}"
what="files: dump is not for them" status 69 hook files dump \
    --clone "$tmp/clone" --run "$tmp/run" --output "$tmp/d"
like "$err" "*neap-restore extract*" "files: says what to use"

# ---- what every built-in hook checks on its command line ----
what="a verb that is none" status 2 hook files dance
what="an option that is none" status 2 hook files probe --frobnicate
like "$err" "*--frobnicate*" "the option is named"
what="a deadline that is none" status 2 hook files quiesce --deadline-ms 1x
what="a path that is not absolute" status 2 hook files validate --clone a --run /
config='{"path"'
what="settings that are no JSON" status 2 hook files probe
what="thaw works all the same" status 0 hook files thaw --id x
unset NEAP_HOOK_CONFIG
what="started by hand" status 2 "$NEAP_BUILD/hooks/files" probe
like "$err" "*neap-hook(7)*" "points to the manual"
done_testing
