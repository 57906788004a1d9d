#!/bin/bash
# The Python library caldav changes texts while reading: "COMPLETED:80 of 100" becomes "COMPLETED:80T120000Z of 100".
#
# Guess:    event.data of a client library is what the server sent.
# Reality:  the library repairs what broken servers are known to send, by patterns over the whole text. One of them makes a time
#           of digits behind "COMPLETED:", in any property, a summary or a note included. Blanks at the end of a value go too.
#           Nothing says so, and event.save() writes the changed text back. A plain GET gives the text as it was stored.
# Versions: caldav 3.6.0, against Xandikos 0.4.10.
# Hurts:    backups of calendars and copies from server to server by this library: valid texts change, once and for good.
set -euo pipefail

work=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server"; rm -rf "$work"' EXIT
cd "$work"

python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target lib caldav==3.6.0 xandikos==0.4.10 >pip.log 2>&1
export PYTHONPATH=$work/lib
pip freeze --path lib | grep -iE '^(caldav|xandikos|icalendar)='

sed 's/~/ /g; s/$/\r/' >event.ics <<'ICS'
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Example//EN
BEGIN:VEVENT
UID:one@example.org
DTSTAMP:20260101T000000Z
DTSTART:20260701T100000Z
SUMMARY:COMPLETED:80 of 100
X-NOTE:two blanks~~
X-OTHER:COMPLETED 80 of 100
END:VEVENT
END:VCALENDAR
ICS
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
python3 -m xandikos serve --listen-address 127.0.0.1 --port "$port" --directory "$work/store" \
  --current-user-principal /anna/ --autocreate --defaults >server.log 2>&1 &
server=$!
at=http://127.0.0.1:$port
for _ in {1..150}; do curl -s -o answer "$at/" && break || sleep 0.2; done
curl -s -f -o answer -T event.ics -H 'Content-Type: text/calendar' "$at/anna/calendars/calendar/one.ics"

AT=$at python3 - <<'PY'
import os, sys, urllib.request
import caldav

URL = os.environ["AT"] + "/anna/calendars/calendar/"

def lines(text):
    return {line.split(":", 1)[0]: line.split(":", 1)[1] for line in text.replace("\r\n", "\n").split("\n") if ":" in line}

def plain():
    with urllib.request.urlopen(URL + "one.ics") as answer:
        return lines(answer.read().decode())

def expect(what, name, wanted, found):
    print(f"{what:26} {name}: {found.get(name)!r}")
    if found.get(name) != wanted:
        sys.exit(f"no longer so: expected {wanted!r}")

calendar = caldav.DAVClient(url=URL, username="anna", password="x").calendar(url=URL)
(event,) = calendar.events()
read = lines(event.data)
expect("GET:", "SUMMARY", "COMPLETED:80 of 100", plain())
expect("event.data:", "SUMMARY", "COMPLETED:80T120000Z of 100", read)
expect("GET:", "X-NOTE", "two blanks  ", plain())
expect("event.data:", "X-NOTE", "two blanks", read)
expect("event.data:", "X-OTHER", "COMPLETED 80 of 100", read)
event.save()
expect("GET, after event.save():", "SUMMARY", "COMPLETED:80T120000Z of 100", plain())
PY
