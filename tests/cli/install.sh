#!/bin/bash
# make install, and the tree that it makes run from another place: the hooks are
# found beside the programs, the manual is there, nothing points back.
. "$(dirname "$0")/../lib.sh"
need_cmd make man
need_built neap
need_built neap-restore
neap_tmp
O=$(dirname "$NEAP_BUILD")
[ "$NEAP_BUILD" = "$O/release" ] || skip_all "$NEAP_BUILD is not a build folder of make"
sources() { (cd "$NEAP_TOP" && find . -path ./build -prune -o -path ./.git -prune -o -type f -printf '%p %T@\n' | sort); }
before=$(sources)
umask 022
ok make -C "$NEAP_TOP" --no-print-directory O="$O" DESTDIR="$tmp/stage" PREFIX=/usr install
is "$(sources)" "$before" "it writes nothing beside the sources"
is "$(find "$tmp/stage" -type f ! -path "$tmp/stage/usr/*")" "" "and nothing outside DESTDIR/PREFIX"
mv "$tmp/stage/usr" "$tmp/moved"
for p in bin/neap bin/neap-restore libexec/neap/{postgresql,sqlite,files}; do
    is "$(stat -c %a "$tmp/moved/$p")" 755 "$p is there, to be run by all"
done
for p in man1/neap.1 man1/neap-restore.1 man5/neap.yaml.5 man7/neap-hook.7; do
    is "$(stat -c %a "$tmp/moved/share/man/$p")" 644 "$p is there, to be read by all"
    what="man shows it without a complaint" ok bash -c \
        '[ -z "$(MANWIDTH=80 man --warnings -l "$1" 2>&1 >/dev/null)" ]' - "$tmp/moved/share/man/$p"
done
for c in neap neap-restore; do
    what="completion of $c is a script that bash reads" ok \
        bash -n "$tmp/moved/share/bash-completion/completions/$c"
done
for f in README.md LICENSE neap.yaml architecture.md format.md; do
    what="$f is there" ok [ -s "$tmp/moved/share/doc/neap/$f" ]
done

# From the moved tree, with nothing of the build in reach by name.
mkdir "$tmp/data"
echo content >"$tmp/data/file"
cat >"$tmp/neap.yaml" <<YAML
state_dir: $tmp/state
repository: {url: $tmp/repo, encryption: none}
jobs: {docs: {engine: files, path: $tmp/data, snapshot: none}}
YAML
neap() { (cd / && env -i PATH=/usr/bin:/bin "$tmp/moved/bin/neap" -c "$tmp/neap.yaml" "$@"); }
restore() { (cd / && env -i PATH=/usr/bin:/bin "$tmp/moved/bin/neap-restore" -c "$tmp/neap.yaml" "$@"); }
status 0 neap init
status 0 neap backup docs
status 0 restore extract docs/latest "$tmp/out"
what="the moved programs work" ok cmp "$tmp/data/file" "$tmp/out$tmp/data/file"
mv "$tmp/moved/libexec/neap/files" "$tmp/files-hook"
neap backup docs >"$tmp/log" 2>&1
what="without its hook: no success, so it was its own" ok [ $? -ne 0 ]
like "$(cat "$tmp/log")" "*job docs*files*" "and the hook is named"
sed -i "1i hooks_dir: $tmp/hooks" "$tmp/neap.yaml"
mkdir "$tmp/hooks"
mv "$tmp/files-hook" "$tmp/hooks/files"
status 0 neap backup docs
ln -s "$tmp/moved/bin/neap" "$tmp/a-link"
mv "$tmp/hooks/files" "$tmp/moved/libexec/neap/files"
status 0 "$tmp/a-link" -c "$tmp/neap.yaml" backup docs
cd "$tmp/moved/bin" || exit 1
what="by a relative name" status 0 ./neap -c "$tmp/neap.yaml" backup docs
cd / || exit 1
done_testing
