#!/bin/bash
# tar -xO of a message that is a hard link writes nothing, exit 0.
#
# Guess:    `tar -xOf backup.tar NAME >message` gives the bytes of NAME, or fails.
# Reality:  a name that the archive stores as a hard link gives no byte at all, no word and exit 0, in GNU tar, bsdtar and
#           BusyBox. The first name of the same file gives all bytes. Extracting both to disk is right in all three.
# Versions: GNU tar 1.34, bsdtar 3.6.2, BusyBox 1.35.0 (Debian 12).
# Hurts:    whoever fetches one message out of a tar of a Cyrus spool. Cyrus stores a copied message as a hard link, so which
#           of its names is "the file" depends on the order in which tar met the folders.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-44s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

apt-get -q -o APT::Sandbox::User=root download tar=1.34+dfsg-1.2+deb12u1 libarchive-tools=3.6.2-1+deb12u5 \
  libarchive13=3.6.2-1+deb12u5 busybox=1:1.35.0-4+deb12u1+b1 >/dev/null
for deb in ./*.deb; do dpkg -x "$deb" root; done
LD_LIBRARY_PATH=$(echo "$work"/root/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH
gnu=root/bin/tar
bsd=root/usr/bin/bsdtar
busybox="root/bin/busybox tar"
$gnu --version | sed -n 1p
$bsd --version
root/bin/busybox 2>&1 | sed -n 1p || true

mkdir -p spool/a spool/b
printf 'From: anna@example.org\r\nSubject: one\r\n\r\none\r\n' >spool/a/1.
ln spool/a/1. spool/b/7.
size=$(stat -c %s spool/a/1.)
$gnu -cf backup.tar spool/a spool/b

for tar in "$gnu" "$bsd" "$busybox"; do
  status=0
  $tar -xOf backup.tar spool/b/7. >message || status=$?
  expect "$tar -xO, the second name:" "exit 0, 0 bytes" "exit $status, $(stat -c %s message) bytes"
  rm -rf out && mkdir out
  $tar -xf backup.tar -C out
  expect "$tar -x, the second name:" "$size bytes" "$(stat -c %s out/spool/b/7.) bytes"
done
$gnu -xOf backup.tar spool/a/1. >message
expect "$gnu -xO, the first name:" "$size bytes" "$(stat -c %s message) bytes"
