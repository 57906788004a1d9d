#!/bin/bash
# Perl's Archive::Tar: two long names of a POSIX archive become one, and one file is gone.
#
# Guess:    Archive::Tar, a part of Perl, reads what GNU tar and Python write; long names at worst fail.
# Reality:  it does not read pax headers. An entry with a name too long for the old header comes out under what the old header
#           has room for, cut at 100 bytes. Two messages whose names differ only behind that overwrite each other; extract()
#           gives success and list_files() lists the same name twice. With --format=gnu both come out.
# Versions: Archive::Tar of Perl 5.36 (2.40); GNU tar 1.34; Python's tarfile writes pax by default.
# Hurts:    deep folders in archives made by Python (default format) or `tar --format=posix`, read by Perl tools.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-26s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

perl -MArchive::Tar -e 'print "Archive::Tar $Archive::Tar::VERSION of Perl $^V\n"'
tar --version | sed -n 1p
python3 --version

folder=mail/$(printf 'f%.0s' {1..90})
mkdir -p "$folder"
echo one >"$folder/message-100001."
echo two >"$folder/message-100002."
tar --format=gnu -cf gnu.tar mail
tar --format=posix -cf posix.tar mail
python3 -c 'import tarfile; t = tarfile.open("python.tar", "w"); t.add("mail"); t.close()'

files() {
  local status=0
  rm -rf out && mkdir out
  perl -MArchive::Tar -e 'my $t = Archive::Tar->new($ARGV[0]) or exit 1; chdir "out"; $t->extract or exit 1' "$1" || status=$?
  echo "exit $status, $(find out -type f | wc -l) files"
}

expect "gnu by Archive::Tar:" "exit 0, 2 files" "$(files gnu.tar)"
expect "posix by Archive::Tar:" "exit 0, 1 files" "$(files posix.tar)"
find out -type f -printf '%P: ' -exec cat {} +
expect "Python's by Archive::Tar:" "exit 0, 1 files" "$(files python.tar)"
for archive in posix python; do
  rm -rf out && mkdir out && tar -xf $archive.tar -C out
  expect "$archive by GNU tar:" 2 "$(find out -type f | wc -l)"
done
