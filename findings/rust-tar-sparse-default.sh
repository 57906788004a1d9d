#!/bin/bash
# The Rust crate tar writes files with holes as GNU sparse entries by default, and npm's tar then loses them, exit 0.
#
# Guess:    a library's append_dir_all() writes plain entries, as `tar -c` does; sparse entries are for those who ask.
# Reality:  Builder looks for holes with SEEK_HOLE and writes the old GNU sparse form ('S') when it finds some. GNU tar and
#           Python read it. npm's tar leaves the file out of the extraction, no error; npm's modern-tar and Perl's Archive::Tar
#           write it without its holes, exit 0; tar-fs and BusyBox stop. With builder.sparse(false) all of them read it.
# Versions: tar 0.4.46 (Rust); npm tar 7.5.23, modern-tar 0.8.6, tar-fs 3.1.3, Archive::Tar 2.40, BusyBox 1.35.0, GNU tar 1.34.
# Hurts:    backups written in Rust and read in Node: whether a file survives depends on whether its file system made holes.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-28s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

apt-get -q -o APT::Sandbox::User=root download busybox=1:1.35.0-4+deb12u1+b1 >/dev/null
dpkg -x busybox_*.deb root
npm install --silent --no-audit --no-fund --prefix . tar@7.5.23 tar-fs@3.1.3 modern-tar@0.8.6 >/dev/null
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "pack"
version = "0.1.0"
edition = "2021"

[dependencies]
tar = "=0.4.46"
TOML
cat >src/main.rs <<'RUST'
fn main() -> std::io::Result<()> {
    let out = std::env::args().nth(1).expect("a file");
    let mut builder = tar::Builder::new(std::fs::File::create(&out)?);
    if out.starts_with("plain") {
        builder.sparse(false);
    }
    builder.append_dir_all("in", "in")?;
    builder.finish()
}
RUST
CARGO_TARGET_DIR=$work/target cargo build -q
cargo tree --prefix none --depth 1 | grep '^tar '
tar --version | sed -n 1p

mkdir in
python3 - <<'PY'
with open("in/mail.db", "wb") as f:
    f.write(b"A" * 4096)
    f.seek(1 << 20)
    f.write(b"B" * 4096)
    f.truncate(1 << 21)
PY
target/debug/pack default.tar
target/debug/pack plain.tar
[[ $(stat -c %s default.tar) -lt 100000 ]] || { echo "no holes on this file system: nothing can be shown" >&2; exit 2; }

read_gnu() { tar -xf "$1" -C out; }
read_python() { python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall("out", filter="data")' "$1"; }
read_busybox() { root/bin/busybox tar -xf "$1" -C out; }
read_npm() { node -e 'require("tar").x({ file: process.argv[1], cwd: "out", sync: true })' "$1"; }
read_tarfs() {
  node -e 'const extract = require("tar-fs").extract("out").on("error", () => process.exit(1))
    require("fs").createReadStream(process.argv[1]).pipe(extract)' "$1"
}
read_modern() { node modern.mjs "$1"; }
cat >modern.mjs <<'JS'
import { unpackTar } from "./node_modules/modern-tar/dist/fs/index.js";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream/promises";
await pipeline(createReadStream(process.argv[2]), unpackTar("out"));
JS
read_perl() { perl -MArchive::Tar -e 'my $t = Archive::Tar->new($ARGV[0]) or exit 1; chdir "out"; $t->extract or exit 1' "$1"; }

outcome() {
  local status=0 got="no file"
  rm -rf out && mkdir out
  "read_$1" "$2.tar" >/dev/null 2>&1 || status=$?
  if cmp -s in/mail.db out/in/mail.db; then
    got=right
  elif [[ -e out/in/mail.db ]]; then
    got="wrong content"
  fi
  echo "exit $status, $got"
}

for reader in gnu python busybox npm modern tarfs perl; do
  expect "sparse(false), $reader:" "exit 0, right" "$(outcome $reader plain)"
done
expect "default, gnu:" "exit 0, right" "$(outcome gnu default)"
expect "default, python:" "exit 0, right" "$(outcome python default)"
expect "default, npm:" "exit 0, no file" "$(outcome npm default)"
expect "default, modern:" "exit 0, wrong content" "$(outcome modern default)"
expect "default, perl:" "exit 0, wrong content" "$(outcome perl default)"
expect "default, tarfs:" "exit 1, no file" "$(outcome tarfs default)"
expect "default, busybox:" "exit 1, no file" "$(outcome busybox default)"
