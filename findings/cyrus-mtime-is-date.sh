#!/bin/bash
# Cyrus: a message that arrives today may have an mtime of years ago, so backups by mtime never see it.
#
# Guess:    a file that was written a minute ago is found by `find -mtime -1` and by everything that saves "what is newer than
#           yesterday".
# Reality:  Cyrus sets the mtime of each message file to its INTERNALDATE. Mail that a client moves in, an import or a restore
#           has the date of the original: find -mtime, tar --newer-mtime and rclone --max-age leave it out, today and on every
#           later day. Only the ctime is new: find -ctime and tar --newer see it.
# Versions: Cyrus 3.6.1 (the same was seen with 3.2.6, 3.10.2 and 3.12.4), GNU tar 1.34, findutils 4.9.0, rclone 1.60.1.
# Hurts:    incremental backups of a spool by date: after a migration the full backup of the day before is all that there is.
set -euo pipefail

work=$(mktemp -d)
trap 'cyrus_stop; rm -rf "$work"' EXIT
. "$(dirname "$(readlink -f "$0")")/cyrus.bash"
cd "$work"
cyrus_install
cyrus_start
apt-get -q -o APT::Sandbox::User=root download rclone=1.60.1+dfsg-2+b5 >/dev/null
dpkg -x rclone_*.deb root
export RCLONE_CONFIG=/dev/null
tar --version | sed -n 1p
find --version | sed -n 1p
root/usr/bin/rclone version | sed -n 1p

expect() {
  printf '%-30s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

PORT=$port python3 - <<'PY'
import imaplib, os

def connect(user):
    connection = imaplib.IMAP4("127.0.0.1", int(os.environ["PORT"]))
    connection.login(user, "x")
    return connection

connect("cyrus").create("user/anna")
anna = connect("anna")
for subject, date in (("moved in", '"03-Feb-2020 04:05:06 +0000"'), ("new", None)):
    message = f"From: anna@example.org\r\nSubject: {subject}\r\n\r\nx\r\n".encode()
    assert anna.append("INBOX", None, date, message)[0] == "OK"
PY
cd "$(cyrus_run mbpath user/anna)"
expect "both messages are there:" "1. 2." "$(find . -name '[0-9]*.' -printf '%f\n' | sort | xargs)"
expect "mtime of the one moved in:" "2020-02-03T04:05:06" "$(TZ=UTC stat -c %y 1. | cut -c1-19 | tr ' ' T)"

# Which of the messages a selection finds.
messages() { grep -oE '[0-9]+\.$' | sort | xargs; }
expect "find -mtime -1:" "2." "$(find . -mtime -1 | messages)"
expect "find -ctime -1:" "1. 2." "$(find . -ctime -1 | messages)"
expect "tar --newer-mtime=yesterday:" "2." "$(tar -c --newer-mtime=yesterday . 2>/dev/null | tar -t | messages)"
expect "tar --newer=yesterday:" "1. 2." "$(tar -c --newer=yesterday . 2>/dev/null | tar -t | messages)"
expect "rclone lsf --max-age 24h:" "2." "$("$work/root/usr/bin/rclone" lsf --max-age 24h . | messages)"
