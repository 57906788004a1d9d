#!/bin/bash
# Python's tarfile: a filter that leaves out or renames a file leaves its hard links pointing to nothing.
#
# Guess:    with add(filter=...), what the filter keeps is whole: the next name of a file that was left out carries the bytes.
# Reality:  tarfile notes a name as "stored" before it asks the filter. Leave out spool/a/1. and its second name is stored as a
#           link to spool/a/1., without bytes. Rename each entry and the link still has the old name. add() says nothing;
#           GNU tar can then not extract that message (exit 2), Python's own extractall() raises KeyError. GNU tar --exclude
#           and npm's tar store the bytes under the name that is left.
# Versions: Python 3.11.7, GNU tar 1.34, npm tar 7.5.23.
# Hurts:    backup scripts that filter or rename below a Cyrus spool, where every copied message is a hard link.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-42s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

npm install --silent --no-audit --no-fund --prefix . tar@7.5.23 >/dev/null
python3 --version
tar --version | sed -n 1p
node -p '"npm tar " + require("./node_modules/tar/package.json").version'

mkdir -p spool/a spool/b
printf 'From: anna@example.org\r\nSubject: one\r\n\r\none\r\n' >spool/a/1.
ln spool/a/1. spool/b/7.
size=$(stat -c %s spool/a/1.)

python3 - <<'PY'
import tarfile

def without(info):
    return None if info.name == "spool/a/1." else info

def renamed(info):
    info.name = info.name.replace("spool", "backup", 1)
    return info

for name, chosen in (("without.tar", without), ("renamed.tar", renamed)):
    with tarfile.open(name, "w") as archive:
        for folder in ("spool/a", "spool/b"):
            archive.add(folder, filter=chosen)
PY
tar --exclude=spool/a/1. -cf gnu.tar spool/a spool/b
node -e 'require("./node_modules/tar").c(
  { file: "npm.tar", sync: true, filter: (path) => path !== "spool/a/1." }, ["spool/a", "spool/b"])'

# How many bytes of the second name come out with GNU tar.
comes_out() {
  local archive=$1 name=$2 status=0
  rm -rf out && mkdir out
  tar -xf "$archive" -C out 2>told || status=$?
  echo "exit $status, $(cat "out/$name" 2>/dev/null | wc -c) bytes"
}

expect "tarfile, first name left out:" "exit 2, 0 bytes" "$(comes_out without.tar spool/b/7.)"
head -n 1 told
expect "tarfile, all renamed:" "exit 2, 0 bytes" "$(comes_out renamed.tar backup/b/7.)"
head -n 1 told
expect "GNU tar --exclude:" "exit 0, $size bytes" "$(comes_out gnu.tar spool/b/7.)"
expect "npm tar, filter:" "exit 0, $size bytes" "$(comes_out npm.tar spool/b/7.)"
mkdir py
raised=$(python3 -c 'import tarfile; tarfile.open("without.tar").extractall("py", filter="data")' 2>&1 | tail -n 1) || true
expect "tarfile reads its own archive:" "KeyError" "${raised%%:*}"
echo "$raised"
