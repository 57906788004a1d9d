#!/bin/bash
# Python's tarfile in stream mode reads the first gzip member only, without a word.
#
# Guess:    tarfile.open(mode="r|gz") reads what mode "r:gz" reads, only without seeking.
# Reality:  "r|gz" has an inflater of its own, which stops at the end of the first gzip member. If a member ends where an entry
#           ends, and appending writers take care that it does, the list is short and nothing is raised. If the first
#           member is empty it raises "empty file". GNU tar, "r:gz", and "r|" over gzip.open() see everything.
# Versions: Python 3.11.7.
# Hurts:    archives that get one gzip member more in each backup run, read from a pipe or a socket: the restore ends with the
#           first day's mail.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-40s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

python3 --version
printf 'first\r\n' >1.
printf 'second\r\n' >2.
tar -cf 1.tar 1. && tar -cf 2.tar 2.
# An entry of one block of data is 1024 bytes; the second file keeps its end of archive.
head -c 1024 1.tar | gzip -n >backup.tar.gz
gzip -n <2.tar >>backup.tar.gz
(gzip -n </dev/null && cat backup.tar.gz) >led.tar.gz

names() {
  python3 - "$@" <<'PY'
import gzip, sys, tarfile
path, mode = sys.argv[1:]
try:
    if mode == "r|":
        archive = tarfile.open(fileobj=gzip.open(path), mode="r|")
    else:
        archive = tarfile.open(path, mode)
    print(*archive.getnames())
except tarfile.ReadError as error:
    print("ReadError:", error)
PY
}

expect "GNU tar:" "1. 2." "$(tar -tzf backup.tar.gz | xargs)"
expect "tarfile r:gz:" "1. 2." "$(names backup.tar.gz 'r:gz')"
expect "tarfile r| over gzip.open:" "1. 2." "$(names backup.tar.gz 'r|')"
expect "tarfile r|gz:" "1." "$(names backup.tar.gz 'r|gz')"
expect "tarfile r|gz, an empty member first:" "ReadError: empty file" "$(names led.tar.gz 'r|gz')"
expect "GNU tar, an empty member first:" "1. 2." "$(tar -tzf led.tar.gz | xargs)"
