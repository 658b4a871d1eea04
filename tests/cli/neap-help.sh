#!/bin/bash
# Help, and a command line that is wrong: what is said, where, and how it ends.
. "$(dirname "$0")/../lib.sh"
need_built neap
need_built neap-restore
neap_tmp
neap() { "$NEAP_BUILD/neap" "$@"; }

commands="init probe backup list show diff status"

# Characters, not bytes: a line may have an ellipsis.
too_wide() { LC_ALL=C.UTF-8 awk 'length($0) > 80'; }

status 0 neap --help
like "$out" "usage: neap *" "help begins with the usage"
is "$err" "" "and goes to standard output alone"
is "$(too_wide <<<"$out")" "" "it has at most 80 columns"
for c in $commands; do
    like "$out" "*
  $c *" "help names $c"
done
is "$(neap -h)" "$out" "-h says the same"
for c in $commands; do
    what="$c --help ends with 0" status 0 neap "$c" --help
    like "$out" "usage: neap * $c*" "$c --help begins with its usage"
    is "$err$(too_wide <<<"$out")" "" "on standard output, in 80 columns"
done
is "$(neap --help backup)" "$(neap backup --help)" "--help may stand before the command"
status 0 neap --version
like "$out" "neap [0-9]*" "--version says it"
is "$("$NEAP_BUILD/neap-restore" --version)" "neap-restore ${out#neap }" \
    "both programs have one version"

# Every option of the help is one that is taken, and the other way round.
for o in full-scan dry-run trust-tracker; do
    like "$(neap backup --help)" "*--$o*" "backup --help has --$o"
done
like "$(neap init --help)" "*--passphrase-file FILE*" "init --help has --passphrase-file"
like "$(neap status --help)" "*--check*" "status --help has --check"

# The configuration is not there: had a command begun, it would say so.
bad() { # PATTERN WORD…
    local pattern=$1
    shift
    what="neap $*: 2" status 2 neap -c "$tmp/none.yaml" "$@"
    like "$err" "neap: $pattern" "and says why"
    is "$out" "" "on standard error alone"
    is "$(wc -l <<<"$err")" 1 "in one line"
}
bad "no command*--help*"
bad "unknown command 'frobnicate'*--help*" frobnicate
bad "unknown command ''*" ""
bad "unknown command 'Backup'*" Backup orders
bad "unknown option --nonsense*" --nonsense list
bad "unknown option --nonsense*" list --nonsense
bad "unknown option -x *" -x list
bad "unknown option -x *" -xq list
bad "unknown option -x *" -qx list
bad "*--json=3*takes no value*" --json=3 list
bad "option --config needs a value" list --config
bad "option -c needs a value" list -c
bad "option --passphrase-file needs a value" init --passphrase-file
bad "usage: neap probe JOB" probe
bad "usage: neap probe JOB" probe one two
bad "usage: neap backup JOB*" backup
bad "usage: neap backup JOB*" backup one two
bad "usage: neap list *" list one two
bad "usage: neap show BACKUP" show
bad "usage: neap diff BACKUP BACKUP" diff one
bad "usage: neap diff BACKUP BACKUP" diff one two three
bad "usage: neap status *" status one two
bad "usage: neap init *" init here
for c in init probe list show diff status; do
    bad "neap $c does not take that option*" "$c" --full-scan
done
bad "neap backup does not take that option*" backup orders --check
bad "neap list does not take that option*" list --passphrase-file /dev/null
bad "no configuration at $tmp/none.yaml*-c*" list
is "$(ls -A "$tmp")" "" "nothing was made by all that"

# What cannot be written is not done.
[ ! -c /dev/full ] || {
    full() { neap "$@" >/dev/full; }
    status 1 full --help
    like "$err" "*standard output: No space left*" "a full disk under the output is an error"
}
done_testing
