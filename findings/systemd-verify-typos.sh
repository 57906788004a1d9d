#!/bin/bash
# systemd-analyze verify: a misspelt option, a value that cannot be read and an unknown group of system calls are exit 0.
#
# Guess:    `systemd-analyze verify` in CI fails when a unit has a mistake in it.
# Reality:  it fails for a program that is missing. For ProtectSystm=, for TimeoutStartSec=5 parsecs, for a relative path in
#           ReadWritePaths= and for SystemCallFilter=@no-such-group it prints a line that ends in "ignoring" and exits 0, and
#           at run time the option is left out as well: the unit runs without that part of its sandbox.
# Versions: systemd 252 (Debian 12). It needs no systemd as process 1.
# Hurts:    hardened units of backup services: the check is green, and the service may write everywhere. Look at the output:
#           it has to be empty.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-46s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

systemd-analyze --version | sed -n 1p

# What verify says of a service with one more line.
verify() {
  local status=0
  printf '[Unit]\nDescription=Backup\n[Service]\nType=oneshot\nExecStart=%s\n%s\n' "$1" "$2" >backup.service
  systemd-analyze verify --man=no ./backup.service 2>told || status=$?
  echo "exit $status, $(if [[ ! -s told ]]; then echo nothing said; elif grep -q 'ignoring' told; then echo ignored; else echo told; fi)"
}

expect "a good unit:" "exit 0, nothing said" "$(verify /bin/true ProtectSystem=strict)"
for line in ProtectSystm=strict "TimeoutStartSec=5 parsecs" ReadWritePaths=var/backup SystemCallFilter=@no-such-group; do
  expect "$line:" "exit 0, ignored" "$(verify /bin/true "$line")"
  cat told
done
expect "a program that is missing:" "exit 1, told" "$(verify /no/such/program ProtectSystem=strict)"
