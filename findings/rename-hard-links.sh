#!/bin/bash
# Moving one name of a file onto another name of the same file does nothing, and reports success.
#
# Guess:    after a successful rename(a, b) there is no a.
# Reality:  if a and b are hard links of one file, rename() returns success and both stay; POSIX asks for that. shutil.move and
#           os.replace (Python), fs.renameSync (Node.js), File::Copy::move (Perl), BusyBox mv and toybox mv pass it on: exit 0,
#           nothing moved. GNU mv refuses ("are the same file", exit 1), npm's fs-extra refuses, rclone does move.
# Versions: Linux 6.18, Python 3.11.7, Node.js 20.20, Perl 5.36, BusyBox 1.35.0, toybox 0.8.9, coreutils 9.1, fs-extra 11.4.1,
#           rclone 1.60.1.
# Hurts:    restores that link a message into place and then "move" it: in a spool where equal messages are hard links, the
#           temporary name stays for ever, and a mover that counts on the source being gone does its work twice.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-22s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

apt-get -q -o APT::Sandbox::User=root download coreutils=9.1-1 toybox=0.8.9+dfsg-1 busybox=1:1.35.0-4+deb12u1+b1 \
  rclone=1.60.1+dfsg-2+b5 >/dev/null
for deb in ./*.deb; do dpkg -x "$deb" root; done
npm install --silent --no-audit --no-fund --prefix . fs-extra@11.4.1 >/dev/null
export RCLONE_CONFIG=/dev/null
uname -sr
python3 --version
echo "Node.js $(node --version)"
root/bin/mv --version | sed -n 1p
root/bin/busybox 2>&1 | sed -n 1p || true
root/usr/bin/rclone version | sed -n 1p

# What a program leaves of two names, and its exit code.
left() {
  local status=0
  rm -rf d && mkdir d
  echo message >d/a
  if [[ $links == one-file ]]; then ln d/a d/b; else echo other >d/b; fi
  "$@" >told 2>&1 || status=$?
  echo "exit $status, left: $(ls d | xargs)"
}

movers=(
  "shutil.move"   "python3 -c import#shutil;shutil.move('d/a','d/b')"
  "os.replace"    "python3 -c import#os;os.replace('d/a','d/b')"
  "fs.renameSync" "node -e require('fs').renameSync('d/a','d/b')"
  "File::Copy"    "perl -MFile::Copy -e move('d/a','d/b')||die"
  "BusyBox mv"    "root/bin/busybox mv d/a d/b"
  "toybox mv"     "root/bin/toybox mv d/a d/b"
)
for links in two-files one-file; do
  echo "-- a and b: $links"
  if [[ $links == two-files ]]; then wanted="exit 0, left: b"; else wanted="exit 0, left: a b"; fi
  for ((i = 0; i < ${#movers[@]}; i += 2)); do
    read -ra words <<<"${movers[i + 1]}"
    expect "${movers[i]}:" "$wanted" "$(left "${words[@]//#/ }")"
  done
done
expect "GNU mv:" "exit 1, left: a b" "$(left root/bin/mv d/a d/b)"
expect "fs-extra moveSync:" "exit 1, left: a b" \
  "$(left node -e "require('fs-extra').moveSync('d/a', 'd/b', { overwrite: true })")"
expect "rclone moveto:" "exit 0, left: b" "$(left root/usr/bin/rclone moveto d/a d/b)"
