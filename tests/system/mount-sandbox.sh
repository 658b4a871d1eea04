#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Law 9: a copy that is brought to life reaches no live data, no network and no
# process of the host, and nothing of it is left, however the check ends.
# tmp, out and err come from the library.
# shellcheck disable=SC2154
. "$(dirname "$0")/../lib.sh"
need_root
need_cmd fusermount3 mkfs.btrfs
[ -e /dev/fuse ] || skip_all "no /dev/fuse here"
need_built neap
need_built neap-restore
neap_tmp
neap() { "$NEAP_BUILD/neap" -c "$tmp/neap.yaml" "$@"; }
restore() { "$NEAP_BUILD/neap-restore" -q -c "$tmp/neap.yaml" "$@"; }
left() { find "$tmp/scratch" -mindepth 1; findmnt -rno TARGET | grep -F "$tmp/scratch"; }

mkdir -p "$tmp/other" "$tmp/scratch"
make_btrfs "$tmp/fs" 300M
data=$tmp/fs/data
btrfs subvolume create "$data" >/dev/null
echo saved >"$data/file"
echo secret >"$tmp/other/file"
# An armed copy: an absolute link to live data that is not in the backup.
ln -s "$tmp/other" "$data/link"
cat >"$tmp/hook" <<SH
#!/bin/bash
case \$1 in
probe)
    echo '{"engine":"script","version":"1","instance":"x","level":"atomic","consistency":"atomic","owner":{"uid":0,"gid":0,"name":"root"},"paths":[{"path":"$data","role":"data"}]}' ;;
quiesce)
    echo '{"state":"quiesced","level":"atomic"}'
    read -r _
    echo '{"state":"released","held_ms":1,"still_held":true}' ;;
thaw) ;;
validate)
    [ ! -e $data/slow ] || sleep 1000
    exit 5 ;;
dump)
    exec >/run/neap-out/dump 2>&1
    echo "file=\$(cat $data/file)"
    echo overwritten >$data/file && rm -r $data/link
    echo "now=\$(cat $data/file)"
    ls $tmp
    cat $tmp/other/file
    echo "links=\$(ls /sys/class/net 2>/dev/null; grep -c : /proc/net/dev)"
    echo "processes=\$(ls -d /proc/[0-9]* | wc -l)"
    touch /usr/written /etc/written
    ls -d $NEAP_TOP $HOME ;;
esac
exit 0
SH
chmod +x "$tmp/hook"
cat >"$tmp/neap.yaml" <<YAML
state_dir: $tmp/state
repository:
  url: $tmp/repo
  host_key: $tmp/host.key
  recovery_key: $tmp/recovery.key
jobs:
  armed: {engine: script, hook: $tmp/hook}
YAML
status 0 neap init
status 0 neap backup armed
status 0 restore dump armed/latest --output "$tmp/said" --scratch "$tmp/scratch"
said=$(cat "$tmp/said")
like "$said" "*file=saved*" "the copy is at its original path"
like "$said" "*now=overwritten*" "and can be written"
is "$(cat "$data/file")" saved "the live file is as it was"
what="so is the live link" ok test -L "$data/link"
like "$said" "*other/file: No such file*" "live data beside it is not there"
[[ $said != *secret* ]]
is "$?" 0 "nor through the link"
like "$said" "*links=1
*" "there is no network but the loopback"
n=$(sed -n 's/^processes=//p' "$tmp/said")
what="no process of the host is seen ($n are)" ok [ "$n" -le 8 ]
like "$said" "*/usr/written*Read-only*/etc/written*Read-only*" "programs and /etc are read-only"
is "$(left)" "" "nothing is left of it"

status 5 restore --json check armed/latest --scratch "$tmp/scratch"
like "$out" '*"could-not-check"*' "a hook that could not check says so"
is "$(left)" "" "nothing is left of that"

touch "$data/slow"
status 0 neap backup armed
"$NEAP_BUILD/neap-restore" -q -c "$tmp/neap.yaml" check armed/latest --scratch "$tmp/scratch" &
pid=$!
for i in $(seq 100); do
    pgrep -f "$tmp/hook validate" >/dev/null && break
    sleep 0.1
done
kill -INT "$pid"
wait "$pid"
is "$?" 1 "an interrupted check fails"
is "$(left)" "" "and leaves nothing"

"$NEAP_BUILD/neap-restore" -q -c "$tmp/neap.yaml" check armed/latest --scratch "$tmp/scratch" 2>/dev/null &
pid=$!
for i in $(seq 100); do
    pgrep -f "$tmp/hook validate" >/dev/null && break
    sleep 0.1
done
kill -9 "$pid"
for i in $(seq 100); do
    findmnt -rno TARGET | grep -qF "$tmp/scratch" || break
    sleep 0.1
done
is "$(findmnt -rno TARGET | grep -F "$tmp/scratch")" "" "a killed check leaves no mount"
is "$(pgrep -f "$tmp/hook validate")" "" "and no process"
touch -d '5 minutes ago' "$tmp/scratch"/*
rm "$data/slow"
status 0 neap backup armed
status 5 restore check armed/latest --scratch "$tmp/scratch"
is "$(left)" "" "its folder goes with the next one"
done_testing
