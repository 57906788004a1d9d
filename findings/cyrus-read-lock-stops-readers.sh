#!/bin/bash
# Cyrus: whoever holds a read lock on a user's lock file stops that user's readers, down to NOOP.
#
# Guess:    a read lock keeps writers out and lets readers through; a backup that holds one disturbs nobody who reads.
# Reality:  a session that has a mailbox SELECTed asks for the user's lock as a writer for NOOP and for FETCH of a message, though
#           it changes nothing: it waits until the reader lets go. The same commands after EXAMINE, and STATUS, go through.
# Versions: Cyrus 3.6.1 (the file is *U*USER.lock below mboxname_lockpath, locked by fcntl). With 3.10.2 and 3.12.4 NOOP was seen
#           to wait and FETCH not, with 3.2.6 neither.
# Hurts:    backups that hold the lock while they read the messages: each open mail client of that user stands still until
#           the copy is done. Take the lock for the index alone, and read the messages after it.
set -euo pipefail

work=$(mktemp -d)
trap 'cyrus_stop; rm -rf "$work"' EXIT
. "$(dirname "$(readlink -f "$0")")/cyrus.bash"
cd "$work"
cyrus_install
cyrus_start

PORT=$port python3 - "$work/cyrus/run/lock" <<'PY'
import fcntl, glob, imaplib, os, sys, threading

def connect(user):
    connection = imaplib.IMAP4("127.0.0.1", int(os.environ["PORT"]))
    connection.login(user, "x")
    return connection

connect("cyrus").create("user/anna")
anna = connect("anna")
anna.append("INBOX", None, None, b"From: anna@example.org\r\nSubject: one\r\n\r\nx\r\n")
(path,) = glob.glob(glob.escape(sys.argv[1]) + "/**/[*]U[*]anna.lock", recursive=True)

def under_read_lock(session, command):
    """Whether the command is answered within four seconds while this process holds a read lock."""
    done = threading.Event()
    lock = os.open(path, os.O_RDWR)
    fcntl.lockf(lock, fcntl.LOCK_SH)
    def run():
        assert command(session)[0] == "OK"
        done.set()
    thread = threading.Thread(target=run)
    thread.start()
    at_once = done.wait(4)
    os.close(lock)
    thread.join(20)
    assert done.is_set(), "not answered after the lock was let go either"
    return "answered" if at_once else "waits"

def opened(readonly):
    session = connect("anna")
    session.select("INBOX", readonly=readonly)
    return session

NOOP = ("NOOP", lambda session: session.noop())
FETCH = ("FETCH", lambda session: session.fetch("1", "BODY.PEEK[]"))
STATUS = ("STATUS", lambda session: session.status("INBOX", "(MESSAGES)"))
for how, session, (name, command), wanted in (
        ("after SELECT", opened(False), NOOP, "waits"), ("after SELECT", opened(False), FETCH, "waits"),
        ("after EXAMINE", opened(True), NOOP, "answered"), ("after EXAMINE", opened(True), FETCH, "answered"),
        ("with no mailbox open", connect("anna"), STATUS, "answered")):
    got = under_read_lock(session, command)
    print(f"a read lock is held elsewhere; {name} {how}: {got}")
    if got != wanted:
        sys.exit(f"no longer so: expected {wanted}")
PY
