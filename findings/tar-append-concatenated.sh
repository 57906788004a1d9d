#!/bin/bash
# Appending to a tar that was put together with cat destroys all but its first part, exit 0.
#
# Guess:    `cat 1.tar 2.tar >all.tar` is read in full with `tar -i`; then `tar -i -r` and `tar -A` append behind all of it.
# Reality:  appending looks for the first end-of-archive blocks and writes there, `-i` or `ignore_zeros` or not. What stood behind
#           them is overwritten. GNU tar (-r and -A), bsdtar, npm's tar and Python's mode "a" all do it, without a word, exit 0.
# Versions: GNU tar 1.34, bsdtar 3.6.2, npm tar 7.5.23, Python 3.11.7.
# Hurts:    daily archives joined by cat, and then one more file added.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-28s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

apt-get -q -o APT::Sandbox::User=root download libarchive-tools=3.6.2-1+deb12u5 libarchive13=3.6.2-1+deb12u5 >/dev/null
for deb in ./*.deb; do dpkg -x "$deb" root; done
npm install --silent --no-audit --no-fund --prefix . tar@7.5.23 >/dev/null
bsdtar() { LD_LIBRARY_PATH=$(echo "$work"/root/usr/lib/*-linux-gnu) root/usr/bin/bsdtar "$@"; }
tar --version | sed -n 1p
bsdtar --version
node -p '"npm tar " + require("./node_modules/tar/package.json").version'
python3 --version

for n in 1 2 3; do
  seq $((n * 10000)) >$n.
  tar -cf $n.tar $n.
done

# Appends with a command to the two archives, and lists what is in the file then.
then_lists() {
  local status=0
  cat 1.tar 2.tar >all.tar
  "$@" || status=$?
  echo "exit $status, $(tar -itf all.tar | xargs)"
}
python() { python3 -c 'import tarfile; t = tarfile.open("all.tar", "a", ignore_zeros=True); t.add("3."); t.close()'; }
npm_tar() { node -e 'require("tar").r({ file: "all.tar", sync: true }, ["3."])'; }

expect "nothing appended:" "exit 0, 1. 2." "$(then_lists true)"
expect "tar -r:" "exit 0, 1. 3." "$(then_lists tar -rf all.tar 3.)"
expect "tar -i -r:" "exit 0, 1. 3." "$(then_lists tar -i -rf all.tar 3.)"
expect "tar -i -A:" "exit 0, 1. 3." "$(then_lists tar -i -Af all.tar 3.tar)"
expect "bsdtar -r:" "exit 0, 1. 3." "$(then_lists bsdtar -rf all.tar 3.)"
expect "npm tar, r:" "exit 0, 1. 3." "$(then_lists npm_tar)"
expect "Python, a, ignore_zeros:" "exit 0, 1. 3." "$(then_lists python)"
cat 1.tar 2.tar 3.tar >all.tar
expect "all three by cat:" "1. 2. 3." "$(tar -itf all.tar | xargs)"
