#!/bin/bash
# Cyrus: APPEND with a date outside of 1970 to 2106 is answered OK, and the message has another date.
#
# Guess:    a server that takes the date of APPEND keeps it, and refuses what it cannot keep.
# Reality:  dates before 1970 are refused (BAD), rightly. The very first second of 1970 is taken for "no date": the message
#           gets the time of the APPEND. Dates from February 2106 on wrap in 32 bits: 2200 becomes 2063. Both are answered OK.
# Versions: Cyrus 3.6.1; the same was seen with 3.2.6, 3.10.2 and 3.12.4.
# Hurts:    restores of mail whose date is 0 in an index, as imports and broken clocks leave it: put back with that date,
#           it rises to the top of the mailbox as today's, and the next comparison finds another message.
set -euo pipefail

work=$(mktemp -d)
trap 'cyrus_stop; rm -rf "$work"' EXIT
. "$(dirname "$(readlink -f "$0")")/cyrus.bash"
cd "$work"
cyrus_install
cyrus_start

PORT=$port python3 - <<'PY'
import calendar, imaplib, os, re, sys, time

def connect(user):
    connection = imaplib.IMAP4("127.0.0.1", int(os.environ["PORT"]))
    connection.login(user, "x")
    return connection

connect("cyrus").create("user/anna")
anna = connect("anna")
anna.select()

def date_after(date):
    """What INTERNALDATE a message appended with `date` has, in seconds."""
    try:
        answer, _ = anna.append("INBOX", None, f'"{date} +0000"', f"From: anna@example.org\r\nSubject: {date}\r\n\r\nx\r\n".encode())
    except imaplib.IMAP4.error:
        return None
    assert answer == "OK", answer
    anna.noop()
    _, (line,) = anna.fetch("*", "INTERNALDATE")
    stored = re.search(rb'"(.*) \+0000"', line).group(1).decode().strip()
    return calendar.timegm(time.strptime(stored, "%d-%b-%Y %H:%M:%S"))

def expect(date, right, what):
    stored = date_after(date)
    shown = "refused" if stored is None else time.strftime("OK, stored as %d-%b-%Y %H:%M:%S", time.gmtime(stored))
    print(date, shown)
    if not right(stored):
        sys.exit(f"no longer so: expected {what}")

def seconds(date):
    return calendar.timegm(time.strptime(date, "%d-%b-%Y %H:%M:%S"))

expect("31-Dec-1969 23:59:59", lambda t: t is None, "BAD")
expect("01-Jan-1970 00:00:00", lambda t: t is not None and abs(t - time.time()) < 60, "the time of the APPEND")
expect("01-Jan-1970 00:00:01", lambda t: t == 1, "that date")
expect("07-Feb-2106 06:28:15", lambda t: t == 2**32 - 1, "that date")
expect("07-Feb-2106 06:28:17", lambda t: t == 1, "1970")
expect("01-Jan-2200 00:00:00", lambda t: t == seconds("01-Jan-2200 00:00:00") - 2**32, "2063")
PY
