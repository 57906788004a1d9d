#!/bin/bash
# Radicale: what stands behind a comma in an X- property of an event is gone after PUT.
#
# Guess:    a CalDAV server keeps a valid object as it was sent, at most in another order; the ETag of the answer to PUT says
#           that what is stored is what was sent.
# Reality:  Radicale parses and rewrites with vobject. "X-NOTE:one,two" comes back as "X-NOTE:one", a semicolon there comes back
#           with a backslash. The answer to PUT is 201 with an ETag, which clients take as leave not to look again.
#           vobject alone does the same. Xandikos rewrites too, and keeps all values.
# Versions: Radicale 3.9.0, vobject 0.9.9, Xandikos 0.4.10.
# Hurts:    calendars restored or moved into Radicale: places, links and custom data (X-APPLE-STRUCTURED-LOCATION is
#           "geo:LATITUDE,LONGITUDE") lose their second half, and a comparison of names and counts does not show it.
set -euo pipefail

work=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server"; rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-26s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target lib \
  radicale==3.9.0 vobject==0.9.9 xandikos==0.4.10 >pip.log 2>&1
export PYTHONPATH=$work/lib
pip freeze --path lib | grep -iE '^(radicale|vobject|xandikos)='

sed 's/$/\r/' >event.ics <<'ICS'
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Example//EN
BEGIN:VEVENT
UID:one@example.org
DTSTAMP:20260101T000000Z
DTSTART:20260701T100000Z
DURATION:P1W
SUMMARY:one\, two
X-NOTE:one,two
X-PAIR:one;two
X-APPLE-STRUCTURED-LOCATION;VALUE=URI;X-TITLE="Here":geo:52.5,13.4
END:VEVENT
END:VCALENDAR
ICS
line() { tr -d '\r' <"$2" | grep "^$1" || echo "no $1"; }
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
wait_for() { for _ in {1..150}; do curl -s -o answer "$1" && return || sleep 0.2; done; echo "no server" >&2; return 1; }

python3 -c 'import sys, vobject
print(vobject.readOne(open("event.ics", newline="").read()).serialize(), end="")' >vobject.ics
expect "vobject alone:" "X-NOTE:one" "$(line X-NOTE vobject.ics)"

at=127.0.0.1:$(port)
python3 -m radicale --server-hosts "$at" --auth-type none --storage-filesystem-folder "$work/radicale" >radicale.log 2>&1 &
server=$!
wait_for "http://$at/"
expect "Radicale, MKCALENDAR:" 201 "$(curl -s -o answer -w '%{http_code}' -u anna:x -X MKCALENDAR "http://$at/anna/home/")"
expect "Radicale, PUT:" 201 "$(curl -s -D head -o answer -w '%{http_code}' -u anna:x -T event.ics "http://$at/anna/home/one.ics")"
expect "Radicale, ETag in it:" 1 "$(grep -ci '^etag:' head)"
curl -s -f -o radicale.ics -u anna:x "http://$at/anna/home/one.ics"
expect "Radicale, GET:" "X-NOTE:one" "$(line X-NOTE radicale.ics)"
expect "Radicale, GET:" 'X-PAIR:one\;two' "$(line X-PAIR radicale.ics)"
expect "Radicale, GET:" 'SUMMARY:one\, two' "$(line SUMMARY radicale.ics)"
expect "Radicale, GET, the place:" 'geo:52.5' "$(line X-APPLE radicale.ics | grep -o 'geo:.*')"
kill "$server"
wait "$server" || true

at=127.0.0.1:$(port)
python3 -m xandikos serve --listen-address 127.0.0.1 --port "${at#*:}" --directory "$work/xandikos" --current-user-principal /anna/ \
  --autocreate --defaults >xandikos.log 2>&1 &
server=$!
wait_for "http://$at/"
status=$(curl -s -o answer -w '%{http_code}' -T event.ics -H 'Content-Type: text/calendar' "http://$at/anna/calendars/calendar/one.ics")
expect "Xandikos, PUT:" 201 "$status"
curl -s -f -o xandikos.ics "http://$at/anna/calendars/calendar/one.ics"
expect "Xandikos, GET:" "X-NOTE:one,two" "$(line X-NOTE xandikos.ics)"
expect "Xandikos, GET:" "X-PAIR:one;two" "$(line X-PAIR xandikos.ics)"
expect "Xandikos, GET, the place:" 'geo:52.5,13.4' "$(line X-APPLE xandikos.ics | grep -o 'geo:.*')"
