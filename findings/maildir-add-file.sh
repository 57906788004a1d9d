#!/bin/bash
# Python's mailbox: add(open(path, "rb")) stores other bytes than add() of what read() gives.
#
# Guess:    Maildir.add() takes bytes or a file opened for bytes, and it makes no difference which.
# Reality:  bytes are stored as they are. From a file, the CR of each CRLF is dropped, on Unix as well: the message that is
#           stored is shorter, get_bytes() of it is not what was added, and nothing says so. mbox and MH do the same. An
#           email.message object loses its CRs too, and each lone CR becomes a line end.
# Versions: Python 3.11.7.
# Hurts:    exports of a spool (CRLF on disk) into Maildir for which a test with bytes had shown that all is exact.
set -euo pipefail

python3 - <<'PY'
import email, hashlib, mailbox, os, sys, tempfile

print("Python", sys.version.split()[0])
MESSAGE = b"From: anna@example.org\r\nSubject: one\r\n\r\na line\r\na lone\rCR\r\n"

def expect(what, wanted, got):
    print(f"{what:36} {len(got)} bytes, SHA-1 {hashlib.sha1(got).hexdigest()[:8]}")
    if got != wanted:
        sys.exit(f"no longer so: expected {wanted!r}, found {got!r}")

with tempfile.TemporaryDirectory() as work:
    path = os.path.join(work, "1.")
    with open(path, "wb") as out:
        out.write(MESSAGE)

    def stored(kind, name, message):
        box = kind(os.path.join(work, kind.__name__ + name))
        key = box.add(message)
        box.flush()
        return box.get_bytes(key)

    without_cr = MESSAGE.replace(b"\r\n", b"\n")
    for kind in (mailbox.Maildir, mailbox.MH, mailbox.mbox):
        name = kind.__name__
        expect(f"{name}, bytes:", MESSAGE, stored(kind, "bytes", MESSAGE))
        with open(path, "rb") as source:
            expect(f"{name}, the file:", without_cr, stored(kind, "file", source))
        expect(f"{name}, email.message:", without_cr.replace(b"\r", b"\n"),
               stored(kind, "object", email.message_from_bytes(MESSAGE)))
PY
