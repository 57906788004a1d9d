#!/bin/bash
# tar -xO and borg extract --stdout of a message that is a hard link write nothing, exit 0.
#
# Guess:    `tar -xOf backup.tar NAME >message` gives the bytes of NAME, or fails.
# Reality:  a name that the archive stores as a hard link gives no byte at all, no word and exit 0, in GNU tar, bsdtar and
#           BusyBox, and in `borg extract --stdout` as well. The first name of the same file gives all bytes. Extracting to disk
#           is right in all of them, and so is `restic dump`.
# Versions: GNU tar 1.34, bsdtar 3.6.2, BusyBox 1.35.0, borg 1.2.4; restic 0.14.0 (Debian 12).
# Hurts:    whoever fetches one message out of a backup of a Cyrus spool. Cyrus stores a copied message as a hard link, so which
#           of its names is "the file" depends on the order in which the folders were read.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-44s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

apt-get -q -o APT::Sandbox::User=root download tar=1.34+dfsg-1.2+deb12u1 libarchive-tools=3.6.2-1+deb12u5 \
  libarchive13=3.6.2-1+deb12u5 busybox=1:1.35.0-4+deb12u1+b1 \
  borgbackup=1.2.4-1 python3-msgpack=1.0.3-2+b1 python3-packaging=23.0-1 libxxhash0=0.8.1-1 restic=0.14.0-1+b5 >/dev/null
for deb in ./*.deb; do dpkg -x "$deb" root; done
LD_LIBRARY_PATH=$(echo "$work"/root/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH PYTHONPATH=$work/root/usr/lib/python3/dist-packages HOME=$work
export BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes RESTIC_PASSWORD=x
borg() { /usr/bin/python3 root/usr/bin/borg "$@" 2>>told; }
restic() { root/usr/bin/restic -q -r with-restic "$@"; }
gnu=root/bin/tar
bsd=root/usr/bin/bsdtar
busybox="root/bin/busybox tar"
$gnu --version | sed -n 1p
$bsd --version
root/bin/busybox 2>&1 | sed -n 1p || true
borg --version
root/usr/bin/restic version

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

borg init -e none with-borg
borg create with-borg::1 spool/a spool/b
for name in a/1. b/7.; do
  status=0
  borg extract --stdout "with-borg::1" "spool/$name" >message || status=$?
  if [[ $name == a/1. ]]; then wanted=$size; else wanted=0; fi
  expect "borg extract --stdout, $name:" "exit 0, $wanted bytes" "exit $status, $(stat -c %s message) bytes"
done
restic init
restic backup spool
for name in a/1. b/7.; do
  restic dump latest "/spool/$name" >message
  expect "restic dump, $name:" "$size bytes" "$(stat -c %s message) bytes"
done
