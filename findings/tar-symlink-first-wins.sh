#!/bin/bash
# GNU tar: of two symbolic links of one name the first one wins, if its target has `..` or is absolute.
#
# Guess:    later entries of a tar replace earlier ones, so an archive that was appended to gives the newest state.
# Reality:  so it is for files, and for links to targets below. Links with `..` or absolute targets are put off to the end of the
#           extraction, and there the first of one name is made and the second is left out. Exit 0. With -P, the last wins.
#           bsdtar, Python's tarfile and npm's tar take the last one.
# Versions: GNU tar 1.34; bsdtar 3.6.2, Python 3.11.7, npm tar 7.5.23.
# Hurts:    `tar -r` of a link that says which release, database or mail folder is the current one: the restore goes back to
#           the oldest.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-30s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

apt-get -q -o APT::Sandbox::User=root download libarchive-tools=3.6.2-1+deb12u5 libarchive13=3.6.2-1+deb12u5 >/dev/null
for deb in ./*.deb; do dpkg -x "$deb" root; done
npm install --silent --no-audit --no-fund --prefix . tar@7.5.23 >/dev/null
bsdtar() { LD_LIBRARY_PATH=$(echo "$work"/root/usr/lib/*-linux-gnu) root/usr/bin/bsdtar "$@"; }
tar --version | sed -n 1p
bsdtar --version
python3 --version

mkdir -p in/links in/old in/new
ln -s ../old in/links/up
ln -s old in/down
echo old >in/file
tar -cf all.tar in
ln -sfn ../new in/links/up
ln -sfn new in/down
echo new >in/file
tar -rf all.tar in

# Where both links lead, and what the file holds.
extracted() {
  rm -rf out && mkdir out
  "$@"
  echo "$(readlink out/in/links/up), $(readlink out/in/down), $(<out/in/file)"
}
python() { python3 -c 'import tarfile; tarfile.open("all.tar").extractall("out", filter="data")'; }
npm_tar() { node -e 'require("tar").x({ file: "all.tar", cwd: "out", sync: true, preservePaths: true })'; }

expect "GNU tar -x:" "../old, new, new" "$(extracted tar -xf all.tar -C out)"
expect "GNU tar -xP:" "../new, new, new" "$(extracted tar -xPf all.tar -C out)"
expect "bsdtar -x:" "../new, new, new" "$(extracted bsdtar -xf all.tar -C out)"
expect "Python:" "../new, new, new" "$(extracted python)"
expect "npm tar:" "../new, new, new" "$(extracted npm_tar)"
