#!/bin/bash
# Cyrus by default stores another message than the one it was given, of exactly the same size, and answers OK.
#
# Guess:    APPEND with a tagged OK and an APPENDUID stores the bytes of the literal; a look at RFC822.SIZE confirms it.
# Reality:  with munge8bit, on by default, each 8-bit byte in a header is replaced by an X. The answer is OK with APPENDUID, the
#           size is the same to the byte, only the content is not. With munge8bit: no the bytes stay. 8-bit bytes in the body
#           stay in both settings.
# Versions: Cyrus 3.6.1; the same was seen with 3.2.6, 3.10.2 and 3.12.4.
# Hurts:    restores by IMAP of older mail with raw Latin-1 or UTF-8 in From and Subject: names are lost for good, checks of
#           size and count pass, only a look at the content (or FETCH DIGEST.SHA1) tells.
set -euo pipefail

work=$(mktemp -d)
trap 'cyrus_stop; rm -rf "$work"' EXIT
. "$(dirname "$(readlink -f "$0")")/cyrus.bash"
cd "$work"
cyrus_install

# What the server has of a message with 8-bit bytes: its size, its header and its SHA-1, against what was sent.
append() {
  PORT=$port python3 - <<'PY'
import hashlib, imaplib, os, re

def connect(user):
    connection = imaplib.IMAP4("127.0.0.1", int(os.environ["PORT"]))
    connection.login(user, "x")
    return connection

connect("cyrus").create("user/anna")
anna = connect("anna")
anna.select()
message = b"From: J\xf6rg <j@example.org>\r\nSubject: Gr\xc3\xbc\xc3\x9fe\r\n\r\nd\xe9j\xe0 vu\r\n"
answer, (text,) = anna.append("INBOX", None, None, message)
assert answer == "OK" and b"APPENDUID" in text, text
anna.noop()
_, data = anna.fetch("*", "(RFC822.SIZE DIGEST.SHA1 BODY.PEEK[])")
head, stored = data[0]
size = int(re.search(rb"RFC822.SIZE (\d+)", head).group(1))
sha1 = re.search(rb"DIGEST.SHA1 ([0-9a-f]{40})", head).group(1).decode()
print("size", "same" if size == len(message) else "other", end=", ")
print("SHA-1", "same" if sha1 == hashlib.sha1(message).hexdigest() else "other", end=", ")
print("header", stored.split(b"\r\n\r\n")[0].decode("latin-1").encode("unicode_escape").decode(), end=", ")
print("body", "same" if stored.split(b"\r\n\r\n")[1] == message.split(b"\r\n\r\n")[1] else "other")
PY
}

expect() {
  printf '%s\n  %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

cyrus_start
expect "default:" 'size same, SHA-1 other, header From: JXrg <j@example.org>\r\nSubject: GrXXXXe, body same' "$(append)"
cyrus_stop
rm -rf "$work/cyrus"
cyrus_start munge8bit=no
expect "munge8bit: no:" \
  'size same, SHA-1 same, header From: J\xf6rg <j@example.org>\r\nSubject: Gr\xc3\xbc\xc3\x9fe, body same' "$(append)"
