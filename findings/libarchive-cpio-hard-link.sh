#!/bin/bash
# libarchive gives an empty file for one name of a hard link in a cpio archive, exit 0.
#
# Guess:    naming one file of an archive extracts it, or fails.
# Reality:  the newc format holds the bytes of a hard-linked file once, at its last name. GNU cpio, asked for the first name
#           alone, gets the bytes all the same. bsdtar and bsdcpio write a file of 0 bytes and exit 0. Asked for the last
#           name alone, bsdcpio says "Hard-link target does not exist", writes nothing and still exits 0; bsdtar exits 1.
# Versions: bsdtar and bsdcpio 3.6.2; GNU cpio 2.13 for comparison (Debian 12).
# Hurts:    restores of single messages or folders from cpio archives of a mail spool, where copies are hard links.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-36s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

apt-get -q -o APT::Sandbox::User=root download libarchive-tools=3.6.2-1+deb12u5 libarchive13=3.6.2-1+deb12u5 \
  cpio=2.13+dfsg-7.1 >/dev/null
for deb in ./*.deb; do dpkg -x "$deb" root; done
LD_LIBRARY_PATH=$(echo "$work"/root/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH
bin=$work/root/usr/bin
cpio=$work/root/bin/cpio
"$bin/bsdcpio" --version
"$cpio" --version | sed -n 1p

mkdir -p spool/a spool/b
printf 'From: anna@example.org\r\nSubject: one\r\n\r\none\r\n' >spool/a/1.
ln spool/a/1. spool/b/7.
size=$(stat -c %s spool/a/1.)
printf '%s\n' spool spool/a spool/a/1. spool/b spool/b/7. | "$cpio" --quiet -o -H newc >backup.cpio

# What NAME looks like after extracting it alone: with PROGRAM...
alone() {
  local name=$1 status=0
  shift
  rm -rf out && mkdir out
  (cd out && "$@" "$name" <../backup.cpio >/dev/null 2>../told) || status=$?
  if [[ -e out/$name ]]; then
    echo "exit $status, $(stat -c %s "out/$name") bytes"
  else
    echo "exit $status, no file"
  fi
}

expect "GNU cpio, first name alone:" "exit 0, $size bytes" "$(alone spool/a/1. "$cpio" --quiet -id)"
expect "GNU cpio, last name alone:" "exit 0, $size bytes" "$(alone spool/b/7. "$cpio" --quiet -id)"
expect "bsdcpio, first name alone:" "exit 0, 0 bytes" "$(alone spool/a/1. "$bin/bsdcpio" -id)"
expect "bsdtar, first name alone:" "exit 0, 0 bytes" "$(alone spool/a/1. "$bin/bsdtar" -xf -)"
expect "bsdcpio, last name alone:" "exit 0, no file" "$(alone spool/b/7. "$bin/bsdcpio" -id)"
cat told
expect "bsdtar, last name alone:" "exit 1, no file" "$(alone spool/b/7. "$bin/bsdtar" -xf -)"
