#!/bin/bash
# sqlite3 .dump: the copy has no user_version, and texts end at the first NUL. Exit 0.
#
# Guess:    `sqlite3 a.db .dump | sqlite3 b.db` makes the same database, only through text.
# Reality:  .dump writes neither PRAGMA user_version nor application_id, by which programs know their schema: both are 0 in
#           the copy. A text with a NUL byte in it, which SQLite stores and compares in full, is cut there. So do .clone and
#           Python's iterdump(), which also writes an infinite number as `Inf`, so that such a dump cannot be read back.
#           VACUUM INTO, .backup and Connection.backup() lose nothing.
# Versions: sqlite3 3.40.1 (Debian 12), Python 3.11.7.
# Hurts:    databases of calendars and mail clients, restored from a dump: the program takes them for version 0 and creates or
#           migrates again. (Cyrus asks user_version of its own SQLite files.)
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-34s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

apt-get -q -o APT::Sandbox::User=root download sqlite3=3.40.1-2+deb12u2 libsqlite3-0=3.40.1-2+deb12u2 libreadline8=8.2-1.3 >/dev/null
for deb in ./*.deb; do dpkg -x "$deb" root; done
LD_LIBRARY_PATH=$(echo "$work"/root/usr/lib/*-linux-gnu)
sqlite() { LD_LIBRARY_PATH=$LD_LIBRARY_PATH root/usr/bin/sqlite3 "$@"; }
sqlite --version
python3 -c 'import sqlite3, sys; print("Python", sys.version.split()[0], "with SQLite", sqlite3.sqlite_version)'

sqlite a.db "PRAGMA user_version = 14; PRAGMA application_id = 7; CREATE TABLE t (a);
  INSERT INTO t VALUES ('before' || char(0) || 'after')"
# Versions and the text of a database.
facts() {
  sqlite "$1" 'PRAGMA user_version; PRAGMA application_id; SELECT hex(a) FROM t' | xargs
}
whole=6265666F7265006166746572
cut=6265666F7265

expect "the original:" "14 7 $whole" "$(facts a.db)"
sqlite a.db .dump | sqlite dump.db
expect ".dump:" "0 0 $cut" "$(facts dump.db)"
sqlite a.db '.clone clone.db' >told
expect ".clone:" "0 0 $cut" "$(facts clone.db)"
python3 -c 'import sqlite3
sqlite3.connect("iter.db").executescript("\n".join(sqlite3.connect("a.db").iterdump()))'
expect "Python's iterdump():" "0 0 $cut" "$(facts iter.db)"
sqlite a.db "VACUUM INTO 'vacuum.db'"
expect "VACUUM INTO:" "14 7 $whole" "$(facts vacuum.db)"
sqlite a.db '.backup backup.db'
expect ".backup:" "14 7 $whole" "$(facts backup.db)"
python3 -c 'import sqlite3; sqlite3.connect("a.db").backup(sqlite3.connect("py.db"))'
expect "Connection.backup():" "14 7 $whole" "$(facts py.db)"

sqlite inf.db 'CREATE TABLE t (a); INSERT INTO t VALUES (9e999)'
sqlite inf.db .dump | sqlite inf-dump.db
expect ".dump of an infinite number:" "Inf" "$(sqlite inf-dump.db 'SELECT a FROM t')"
raised=$(python3 -c 'import sqlite3
sqlite3.connect("inf-iter.db").executescript("\n".join(sqlite3.connect("inf.db").iterdump()))' 2>&1 | tail -n 1) || true
expect "iterdump() of it, read back:" "sqlite3.OperationalError: no such column: Inf" "$raised"
