#!/bin/bash
# imaplib's append() changes the message: each lone CR and each lone LF becomes CRLF. So do the libraries that build on it.
#
# Guess:    append(mailbox, flags, date, message) stores these bytes, or the server refuses them.
# Reality:  imaplib replaces every lone CR and lone LF of the argument by CRLF before it counts the literal. A message with a
#           lone CR, which Cyrus stores and gives back as it is, comes back longer and with another SHA-1, and the server
#           says OK. IMAPClient and imap-tools go through imaplib and do the same; aioimaplib sends what it was given. A message
#           with a bare LF is refused by Cyrus, and by way of imaplib it is taken, changed.
# Versions: Python 3.11.7, IMAPClient 4.1.0, imap-tools 1.16.0, aioimaplib 2.0.3, against Cyrus 3.6.1.
# Hurts:    restores and migrations: signatures over the body break, and whoever looks for the message by size or SHA-1 to
#           see whether it is there does not find it, and adds it again on each run.
set -euo pipefail

work=$(mktemp -d)
trap 'cyrus_stop; rm -rf "$work"' EXIT
. "$(dirname "$(readlink -f "$0")")/cyrus.bash"
cd "$work"
cyrus_install
cyrus_start

python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target lib \
  imapclient==4.1.0 imap-tools==1.16.0 aioimaplib==2.0.3 >pip.log 2>&1
PYTHONPATH=lib PORT=$port python3 - <<'PY'
import asyncio, hashlib, imaplib, os, sys
import aioimaplib, imap_tools, imapclient
from importlib.metadata import version

HOST, PORT = "127.0.0.1", int(os.environ["PORT"])
print("Python", sys.version.split()[0], *(f"{n} {version(n)}" for n in ("IMAPClient", "imap-tools", "aioimaplib")), sep=", ")

def connect(user):
    connection = imaplib.IMAP4(HOST, PORT)
    connection.login(user, "x")
    return connection

connect("cyrus").create("user/anna")

def by_imaplib(message):
    return connect("anna").append("INBOX", None, None, message)[0]

def by_imapclient(message):
    client = imapclient.IMAPClient(HOST, PORT, ssl=False)
    client.login("anna", "x")
    return "OK" if client.append("INBOX", message) else "NO"

def by_imap_tools(message):
    box = imap_tools.MailBoxUnencrypted(HOST, PORT).login("anna", "x")
    return box.append(message, "INBOX")[0]

def by_aioimaplib(message):
    async def append():
        client = aioimaplib.IMAP4(HOST, PORT)
        await client.wait_hello_from_server()
        await client.login("anna", "x")
        return (await client.append(message, "INBOX")).result
    return asyncio.run(append())

def newest():
    reader = connect("anna")
    _, (count,) = reader.select("INBOX", readonly=True)
    return reader.fetch(count, "BODY.PEEK[]")[1][0][1] if int(count) else b""

HEAD = b"From: anna@example.org\r\nSubject: one\r\n\r\n"
so = True
for what, message, raw in (("a lone CR", HEAD + b"a\rb\r\n", "OK, as given"), ("a bare LF", HEAD + b"a\nb\r\n", "NO")):
    for library, changes in ((by_imaplib, True), (by_imapclient, True), (by_imap_tools, True), (by_aioimaplib, False)):
        before = newest()
        answer = library(message)
        stored = newest()
        if answer == "OK":
            answer = "OK, as given" if stored == message else f"OK, {len(stored) - len(message)} byte more"
        print(f"{what}, {library.__name__}: {answer}, SHA-1 {hashlib.sha1(stored).hexdigest()[:8]}")
        so = so and answer == ("OK, 1 byte more" if changes else raw) and (answer != "NO" or stored == before)
sys.exit(0 if so else "no longer so")
PY
