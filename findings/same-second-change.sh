#!/bin/bash
# A change within the same second, of the same size, is not seen by rsync, rdiff-backup and duplicity.
#
# Guess:    file systems keep nanoseconds, so a backup tool that compares size and time of change sees any later write.
# Reality:  rsync, rdiff-backup and duplicity compare sizes and whole seconds of mtime. A file of constant size that is
#           written again in the second in which it was copied stays old in every later run, exit 0, until it changes once more. rsync -a sees it with --modify-window=-1. rclone, restic, borg and tar -g see it.
# Versions: rsync 3.5.0, rdiff-backup 2.2.2, duplicity 0.8.22; rclone 1.60.1, restic 0.14.0, borg 1.2.4, GNU tar 1.34 (Debian 12).
# Hurts:    mail servers that write indexes in place: a change of flags in a cyrus.index changes neither its size nor its inode.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-30s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

apt-get -q -o APT::Sandbox::User=root download rsync=3.5.0+ds1-0+deb12u1 libpopt0=1.19+dfsg-1 libxxhash0=0.8.1-1 \
  rdiff-backup=2.2.2-1 duplicity=0.8.22-1+b3 librsync2=2.3.2-1+b1 libb2-1=0.98.1-1.1 python3-yaml=6.0-3+b2 \
  python3-fasteners=0.17.3-2 python3-future=0.18.2-6 rclone=1.60.1+dfsg-2+b5 restic=0.14.0-1+b5 borgbackup=1.2.4-1 \
  python3-msgpack=1.0.3-2+b1 python3-packaging=23.0-1 >/dev/null
for deb in ./*.deb; do dpkg -x "$deb" root; done
LD_LIBRARY_PATH=$(echo "$work"/root/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH PYTHONPATH=$work/root/usr/lib/python3/dist-packages HOME=$work RCLONE_CONFIG=/dev/null
export RESTIC_PASSWORD=x BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes
bin=$work/root/usr/bin
rdiff() { /usr/bin/python3 "$bin/rdiff-backup" "$@" >>log 2>&1; }
duplicity() { /usr/bin/python3 "$bin/duplicity" --no-encryption --archive-dir cache "$@" >>log 2>&1; }
borg() { /usr/bin/python3 "$bin/borg" "$@" >>log 2>&1; }
"$bin/rsync" --version | sed -n 1p
/usr/bin/python3 "$bin/rdiff-backup" --version
/usr/bin/python3 "$bin/duplicity" --version
"$bin/rclone" version | sed -n 1p
"$bin/restic" version
/usr/bin/python3 "$bin/borg" --version
tar --version | sed -n 1p

back_up_rsync() { "$bin/rsync" -a src/ dst/; }
fetch_rsync() { cat dst/index; }
back_up_rsync_fine() { "$bin/rsync" -a --modify-window=-1 src/ dst/; }
fetch_rsync_fine() { cat dst/index; }
back_up_rdiff() { rdiff backup src dst && sleep 1.1; }
fetch_rdiff() { cat dst/index; }
back_up_duplicity() { duplicity src "file://$work/dst" && sleep 1.1; }
fetch_duplicity() { duplicity restore "file://$work/dst" out && cat out/index; }
back_up_rclone() { "$bin/rclone" -q copy src dst; }
fetch_rclone() { cat dst/index; }
back_up_restic() {
  [[ -d dst ]] || "$bin/restic" -q -r dst init
  "$bin/restic" -q -r dst backup src
}
fetch_restic() { "$bin/restic" -q -r dst restore latest --target out && cat out/src/index; }
back_up_borg() {
  [[ -d dst ]] || borg init -e none dst
  borg create "dst::$1" src
}
fetch_borg() { borg extract dst::2 && cat src/index; }
back_up_tar() { mkdir -p dst && tar -g dst/list -cf "dst/$1.tar" src; }
fetch_tar() { mkdir out && for n in 1 2; do tar -xf "dst/$n.tar" -C out; done && cat out/src/index; }

# What the tool has after the first byte of a file was changed in place, in the same second, and it ran again.
newest() {
  rm -rf src dst out cache && mkdir src
  printf 'old state' >src/index
  touch -d '2026-01-01 10:00:00.1' src/index
  "back_up_$1" 1
  printf 'new' | dd of=src/index conv=notrunc status=none
  touch -d '2026-01-01 10:00:00.9' src/index
  "back_up_$1" 2
  "fetch_$1"
}

for tool in rsync rdiff duplicity; do expect "$tool, second run:" "old state" "$(newest $tool)"; done
for tool in rsync_fine rclone restic borg tar; do expect "$tool, second run:" "new state" "$(newest $tool)"; done
