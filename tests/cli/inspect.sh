#!/bin/bash
# neap-inspect knows every file of a small repository, opens with a key what a
# key opens, and says of a damaged file where it is damaged.
. "$(dirname "$0")/../lib.sh"
need_cmd python3
need_built neap
need_built neap-inspect
neap_tmp
inspect() { "$NEAP_BUILD/neap-inspect" "$@"; }
neap() { "$NEAP_BUILD/neap" -c "$tmp/$1.yaml" "${@:2}"; }

mkdir "$tmp/data"
head -c 300000 /dev/urandom >"$tmp/data/noise"
seq 60000 >"$tmp/data/numbers"
ln "$tmp/data/numbers" "$tmp/data/again"
ln -s nowhere "$tmp/data/link"
printf x >"$tmp/data/$(printf 'bell\a\xff')"

# The same job into an encrypted repository and a plain one.
for kind in sealed plain; do
    {
        echo "state_dir: $tmp/state-$kind"
        echo "repository:"
        echo "  url: $tmp/$kind"
        if [ $kind = sealed ]; then
            echo "  host_key: $tmp/host.key"
            echo "  recovery_key: $tmp/recovery.key"
        else
            echo "  encryption: none"
        fi
        echo "jobs:"
        echo "  docs: {engine: files, path: $tmp/data, snapshot: none}"
    } >"$tmp/$kind.yaml"
    what="init $kind" ok neap $kind init
    what="back up into $kind" ok neap $kind -q backup docs
done

# ---- whole files ----
one() { printf '%s\n' "$tmp/$1"/$2 | head -1; } # REPOSITORY GLOB
all() { find "$tmp/$1" -type f; }
# shellcheck disable=SC2046 # no blanks in these names
{
    what="everything of a plain repository is whole" status 0 inspect $(all plain)
    what="a sealed one without a key cannot be checked" status 5 inspect $(all sealed)
    what="with the host key all is whole" \
        status 0 inspect --key "$tmp/host.key" $(all sealed)
    what="with the recovery key too" \
        status 0 inspect --key "$tmp/recovery.key" $(all sealed)
}
is "$(grep -c '^  state  *whole$' <<<"$out")" "$(all sealed | wc -l)" \
    "it says so of each file"
like "$out" "*chunks_damaged   0*" "and has opened the chunks"
like "$out" '*"consistency": "unproven"*' "the record is shown"
what="the host key opens no chunk" status 0 inspect --key "$tmp/host.key" "$(one sealed 'packs/*/*')"
like "$out" "*chunks_opened    none: that takes the recovery key*" "and says that it did not"
what="the folder of the block map" \
    status 0 inspect "$tmp"/state-sealed/jobs/docs/blockmap/{objects,hashes}
like "$out" "*job              docs*" "which names its job"

map=$(one plain 'maps/*')
status 0 inspect --json --list "$map"
names=$(python3 -c '
import json, sys
rows = json.load(sys.stdin)[0]["list"]
names = {r["name"] for r in rows if "folder" in r}
print({"again", "data", "link", "noise", "numbers"} <= names)' <<<"$out")
is "$names" True "--json --list has the names of a map"
like "$out" '*"name_hex": "62656c6c07ff"*' "and bytes that are no text in hex"
like "$out" '*"target": "nowhere"*' "and what a link points to"
status 0 inspect --list "$map"
what="nothing of a name reaches the terminal" ok [ -z "$(tr -dc '\a' <<<"$out")" ]

# ---- keys ----
secret=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["private_key"])' "$tmp/recovery.key")
status 0 inspect "$tmp/recovery.key" "$tmp/host.key"
like "$out" "*kind             recovery*kind             host*" "key files are known"
what="and their secrets kept" ok [ "${out/$secret/}" = "$out" ]
sed "s#$tmp/sealed#$tmp/other#; s#/host.key#/other.key#; s#/recovery.key#/other.recovery#" \
    "$tmp/sealed.yaml" >"$tmp/other.yaml"
what="another repository" ok neap other init
what="a foreign key is not damage" \
    status 5 inspect --key "$tmp/other.key" "$(one sealed 'maps/*')"
like "$err" "*another repository's*" "it says whose it is"
chmod 644 "$tmp/other.key"
what="a key that others can read is refused" status 5 inspect "$tmp/other.key"
chmod 600 "$tmp/other.key"
sed -i 's/"meta_key": "./"meta_key": "x/' "$tmp/other.key"
what="a damaged key file" status 4 inspect "$tmp/other.key"
what="which shows none of it" ok [ -z "$(grep -o 'x[0-9a-f]\{8\}' <<<"$out$err")" ]

# ---- damage: each file cut short, and a byte in each of many places ----
hurt() { # FILE OFFSET: flip one byte
    python3 -c '
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2])); b = f.read(1)
    f.seek(int(sys.argv[2])); f.write(bytes([b[0] ^ 0x55]))' "$1" "$2"
}
# shellcheck disable=SC2046 # no blanks in these names
missed=$(python3 - "$NEAP_BUILD/neap-inspect" $(all plain | grep -v neap.json) \
    "$tmp/state-plain/jobs/docs/blockmap/objects" <<'PY'
import subprocess, sys
def try_it(path, what):
    p = subprocess.run([sys.argv[1], path], capture_output=True)
    if p.returncode != 4 or b"state            damaged" not in p.stdout:
        print(path, what, p.returncode)
for path in sys.argv[2:]:
    whole = open(path, "rb").read()
    for at in (16, len(whole) // 2, len(whole) - 33, len(whole) - 3):
        open(path, "wb").write(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1:])
        try_it(path, at)
    open(path, "wb").write(whole[:-1])
    try_it(path, "cut")
    open(path, "wb").write(whole)
PY
)
is "$missed" "" "a byte cut off or changed in any file is found"

pack=$(one plain 'packs/*/*')
hurt "$pack" 70
what="a chunk" status 4 inspect "$pack"
like "$err" "*$pack*chunk at 64*" "the message has file and offset"
hurt "$pack" 70
what="whole again" status 0 inspect "$pack"
record=$(one plain 'backups/docs/*')
mkdir -p "$tmp/backups/docs"
cp "$record" "$tmp/backups/docs/20200101T000000Z"
what="a record in another's place" status 4 inspect "$tmp/backups/docs/20200101T000000Z"
cp "$record" "$tmp/record"
what="a record without its place" status 5 inspect "$tmp/record"
cp "$map" "$tmp/plain/maps/00112233445566778899aabbccddeeff"
what="a map under another's name" \
    status 4 inspect "$tmp/plain/maps/00112233445566778899aabbccddeeff"
cp "$map" "$tmp/copy"
what="a copy under a name of ours" status 0 inspect "$tmp/copy"

# ---- the command line ----
status 0 inspect --help
is "$(awk 'length > 80' <<<"$out")" "" "help fits 80 columns"
status 2 inspect
status 2 inspect --nonsense x
status 1 inspect "$tmp/none-such"
what="a file of somebody else" status 1 inspect "$tmp/data/numbers"
what="corrupt is worse than failed" status 4 inspect "$tmp/none-such" \
    "$tmp/plain/maps/00112233445566778899aabbccddeeff" "$tmp/copy"
done_testing
