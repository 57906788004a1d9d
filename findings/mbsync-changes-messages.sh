#!/bin/bash
# mbsync: a message comes back from the Maildir with one more header, and without its lone CRs.
#
# Guess:    a copy by mbsync from one IMAP account to a Maildir and on to another differs by line ends on the way, at most: CRLF on
#           the servers, LF in the Maildir.
# Reality:  a line "X-TUID: ..." is added to the header and stays there, so no copy has the size or the SHA-1 of the original. A CR that no LF follows is dropped from the body in silence. Line ends alone, and a last line
#           without one, survive. Exit 0 both times.
# Versions: isync 1.4.4 (Debian 12), between two accounts of Cyrus 3.6.1.
# Hurts:    mbsync as a backup or for a move: no checksum of a copy can be compared with the original, and signatures over a
#           body with a lone CR break.
set -euo pipefail

work=$(mktemp -d)
trap 'cyrus_stop; rm -rf "$work"' EXIT
. "$(dirname "$(readlink -f "$0")")/cyrus.bash"
cd "$work"
cyrus_install
cyrus_start
apt-get -q -o APT::Sandbox::User=root download isync=1.4.4-5 >/dev/null
dpkg -x isync_*.deb mbsync
mbsync/usr/bin/mbsync --version

account() {
  cat <<END
IMAPAccount $1
Host 127.0.0.1
Port $port
User $1
Pass x
SSLType None
AuthMechs LOGIN

IMAPStore $1
Account $1

END
}
{
  account anna
  account bob
  cat <<END
MaildirStore disk
Path $work/mail/
Inbox $work/mail/INBOX

Channel fetch
Far :anna:
Near :disk:
Create Near
Sync Pull
SyncState $work/state/fetch/

Channel restore
Far :bob:
Near :disk:
Sync Push
SyncState $work/state/restore/
END
} >mbsyncrc
mkdir -p mail state/fetch state/restore

cat >mail.py <<'PY'
import imaplib, os, re, sys

HEAD = b"From: anna@example.org\r\nSubject: one\r\n"
BODIES = (b"plain\r\n", b"no line end", b"with a lone\rCR\r\n")

def connect(user):
    connection = imaplib.IMAP4("127.0.0.1", int(os.environ["PORT"]))
    connection.login(user, "x")
    return connection

if sys.argv[1] == "fill":
    admin = connect("cyrus")
    admin.create("user/anna")
    admin.create("user/bob")
    anna = connect("anna")
    for body in BODIES:
        message = HEAD + b"\r\n" + body
        # By hand: append() would change the lone CR.
        anna.send(b"a APPEND INBOX {%d}\r\n" % len(message))
        assert anna.readline().startswith(b"+")
        anna.send(message + b"\r\n")
        assert anna.readline().startswith(b"a OK")
else:
    bob = connect("bob")
    _, (count,) = bob.select(readonly=True)
    stored = [item[1] for item in bob.fetch("1:*", "BODY.PEEK[]")[1] if isinstance(item, tuple)]
    for body, message in zip(BODIES, stored, strict=True):
        head, got = message.split(b"\r\n\r\n", 1)
        added = re.sub(rb"TUID: .*", rb"TUID", head[len(HEAD):]).decode() if head.startswith(HEAD) else "other"
        print(f"header +{added}, body {body!r} -> {got!r}")
        assert added == "X-TUID", "no longer so: expected one more header"
        assert got == body.replace(b"\rC", b"C"), "no longer so: expected that only the lone CR is gone"
PY
export PORT=$port
python3 mail.py fill
HOME=$work mbsync/usr/bin/mbsync -q -c mbsyncrc fetch 2>>told
HOME=$work mbsync/usr/bin/mbsync -q -c mbsyncrc restore 2>>told
python3 mail.py show
