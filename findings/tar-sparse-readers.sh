#!/bin/bash
# A sparse file in a POSIX tar comes out of six readers under another name, with other content, exit 0.
#
# Guess:    `tar -S` only saves space; any tar reader gives the file back, or says that it cannot.
# Reality:  with --format=posix the map of the holes is text in front of the data, and the entry is called
#           dir/GNUSparseFile.PID/name. Readers that do not know it extract just that: BusyBox, toybox, npm's tar, tar-fs and
#           modern-tar, Perl's Archive::Tar. Exit 0, no file of the right name, and the bytes are map and data run together.
# Versions: GNU tar 1.34, BusyBox 1.35.0, toybox 0.8.9, npm tar 7.5.23, tar-fs 3.1.3, modern-tar 0.8.6, Archive::Tar of Perl
#           5.36; GNU tar and Python's tarfile read it right.
# Hurts:    databases and indexes with holes (preallocated, or copied with --sparse) backed up with `tar -S`.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-24s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

apt-get -q -o APT::Sandbox::User=root download toybox=0.8.9+dfsg-1 busybox=1:1.35.0-4+deb12u1+b1 >/dev/null
for deb in ./*.deb; do dpkg -x "$deb" root; done
npm install --silent --no-audit --no-fund --prefix . tar@7.5.23 tar-fs@3.1.3 modern-tar@0.8.6 >/dev/null
export NODE_PATH=$work/node_modules
tar --version | sed -n 1p
root/bin/busybox 2>&1 | sed -n 1p || true
root/bin/toybox --version
perl -MArchive::Tar -e 'print "Archive::Tar $Archive::Tar::VERSION\n"'

mkdir in
python3 - <<'PY'
with open("in/mail.db", "wb") as f:
    f.write(b"A" * 4096)
    f.seek(1 << 20)
    f.write(b"B" * 4096)
    f.truncate(1 << 21)
PY
tar --format=posix -S -cf posix.tar in
[[ $(stat -c %s posix.tar) -lt 100000 ]] || { echo "no holes on this file system: nothing can be shown" >&2; exit 2; }

cat >modern.mjs <<'JS'
import { unpackTar } from "./node_modules/modern-tar/dist/fs/index.js";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";
await pipeline(createReadStream(process.argv[2]), unpackTar("out"));
JS
read_gnu() { tar -xf "$1" -C out; }
read_python() { python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall("out", filter="data")' "$1"; }
read_busybox() { root/bin/busybox tar -xf "$1" -C out; }
read_toybox() { root/bin/toybox tar -xf "$1" -C out; }
read_npm() { node -e 'require("tar").x({ file: process.argv[1], cwd: "out", sync: true })' "$1"; }
read_tarfs() {
  node -e 'const extract = require("tar-fs").extract("out").on("error", () => process.exit(1))
    require("fs").createReadStream(process.argv[1]).pipe(extract)' "$1"
}
read_modern() { node modern.mjs "$1"; }
read_perl() { perl -MArchive::Tar -e 'my $t = Archive::Tar->new($ARGV[0]) or exit 1; chdir "out"; $t->extract or exit 1' "$1"; }

# What one reader makes of the archive.
outcome() {
  local status=0 got=lost
  rm -rf out && mkdir out
  "read_$1" posix.tar >/dev/null 2>&1 || status=$?
  if cmp -s in/mail.db out/in/mail.db; then
    got=right
  elif [[ -e out/in/mail.db ]]; then
    got="wrong content"
  elif compgen -G 'out/in/GNUSparseFile.*/mail.db' >/dev/null; then
    got="other name, $(($(cat out/in/GNUSparse*/mail.db | wc -c) - 8192)) bytes of map in it"
  fi
  echo "exit $status, $got"
}

for reader in gnu python; do expect "$reader:" "exit 0, right" "$(outcome $reader)"; done
for reader in busybox toybox npm tarfs modern perl; do
  expect "$reader:" "exit 0, other name, 512 bytes of map in it" "$(outcome $reader)"
done
