#!/bin/bash
# Cyrus: reconstruct of a mailbox without cyrus.header throws the index away, exit 0.
#
# Guess:    reconstruct makes a lost cyrus.header anew (its contents are in mailboxes.db too) and keeps cyrus.index, where the
#           flags are, which is whole.
# Reality:  it begins with an empty index: \Seen and \Flagged are gone, UIDVALIDITY is another one, and a message that was
#           expunged, but lies on the disk until cyr_expire, is there again. It exits 0. With cyrus.header in its place all
#           stays as it was.
# Versions: Cyrus 3.6.1; the same was seen with 3.2.6, 3.10.2 and 3.12.4.
# Hurts:    restores of a spool that leave out the small files: the usual "then run reconstruct" makes the loss final, and
#           clients fetch everything again.
set -euo pipefail

work=$(mktemp -d)
trap 'cyrus_stop; rm -rf "$work"' EXIT
. "$(dirname "$(readlink -f "$0")")/cyrus.bash"
cd "$work"
cyrus_install
cyrus_start expunge_mode=delayed

expect() {
  printf '%-28s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

imap() { PORT=$port python3 "$work/imap.py" "$@"; }
cat >imap.py <<'PY'
import imaplib, os, sys

def connect(user):
    connection = imaplib.IMAP4("127.0.0.1", int(os.environ["PORT"]))
    connection.login(user, "x")
    return connection

if sys.argv[1] == "fill":
    connect("cyrus").create("user/anna")
    anna = connect("anna")
    for subject in ("kept", "expunged"):
        message = f"From: anna@example.org\r\nSubject: {subject}\r\n\r\nx\r\n".encode()
        anna.append("INBOX", "(\\Seen \\Flagged)", None, message)
    anna.select()
    anna.store("2", "+FLAGS", "(\\Deleted)")
    anna.expunge()
else:
    anna = connect("anna")
    _, (count,) = anna.select(readonly=True)
    _, flags = anna.fetch("1:*", "FLAGS")
    (validity,) = anna.untagged_responses["UIDVALIDITY"]
    with_flags = sum(b"\\Seen" in line and b"\\Flagged" in line for line in flags)
    print(f"{int(count)} messages, {with_flags} seen and flagged, UIDVALIDITY {validity.decode()}")
PY

imap fill
# So that a new UIDVALIDITY, which is a time, cannot be the old one by chance.
sleep 2
before=$(imap show)
expect "before:" "1 messages, 1 seen and flagged" "${before%, UID*}"
status=0
cyrus_run reconstruct user/anna >told || status=$?
expect "reconstruct, exit:" 0 "$status"
expect "after reconstruct:" "$before" "$(imap show)"

rm "$(cyrus_run mbpath user/anna)/cyrus.header"
cyrus_run reconstruct user/anna >told || status=$?
cat told
expect "without cyrus.header, exit:" 0 "$status"
after=$(imap show)
expect "after reconstruct:" "2 messages, 0 seen and flagged" "${after%, UID*}"
[[ ${after##* } != "${before##* }" ]] && validity=new || validity=same
expect "UIDVALIDITY:" new "$validity"
