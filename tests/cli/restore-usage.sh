#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# neap-restore as it is called wrongly, and its help.
# tmp, out and err come from the library.
# shellcheck disable=SC2154
. "$(dirname "$0")/../lib.sh"
need_built neap-restore
neap_tmp
restore() { "$NEAP_BUILD/neap-restore" "$@"; }

status 0 restore --help
is "$err" "" "help goes to standard output"
like "$out" "usage: neap-restore*" "and begins with the usage"
for c in list extract mount unmount check dump; do
    like "$out" "*
  $c *" "help names $c"
    wide=$(restore "$c" --help | awk 'length($0) > 80')
    is "$wide" "" "$c --help has at most 80 columns"
done
is "$(restore --help | awk 'length($0) > 80')" "" "nor has --help more"
status 0 restore --version

status 2 restore
status 2 restore frobnicate
like "$err" "*no command 'frobnicate'*" "an unknown command is named"
is "$out" "" "and nothing is on standard output"
status 2 restore --nonsense list
like "$err" "*--nonsense*" "an unknown option is named"
status 2 restore list --nonsense
like "$err" "*--nonsense*" "also behind the command"
status 2 restore extract only-one
like "$err" "*usage: neap-restore extract*" "too few arguments show the usage"
status 2 restore -r "$tmp/none" extract a "$tmp/b" --path not/absolute
like "$err" "*not/absolute*absolute path*" "a relative pattern is explained"
status 2 restore -r "$tmp/none" mount a "$tmp" --cache 12parsecs
like "$err" "*12parsecs*not a size*" "so is a size that is none"
status 2 restore -r "$tmp/none" dump a
like "$err" "*--output*" "a dump needs a place"
status 2 restore -c "$tmp/missing.yaml" list
like "$err" "*$tmp/missing.yaml*" "a configuration that is not there is named"
status 1 restore -r "$tmp/none" list
like "$err" "*$tmp/none*" "so is a repository"
status 1 restore unmount "$tmp"
like "$err" "*no backup of neap is mounted there*" "unmount of nothing says so"
done_testing
