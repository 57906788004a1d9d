#!/bin/bash
# imaplib: after select() of a folder without write rights, LIST and NOOP raise too, without being sent.
#
# Guess:    select() of a folder that one may only read gives "OK [READ-ONLY]", or raises once; other commands go on to work.
# Reality:  select() raises IMAP4.readonly, though the server said OK and the folder is open. From then on noop(), list(), status()
#           and fetch() of that connection raise as well, before anything is sent, until another folder is selected.
#           With select(..., readonly=True) all of them work. IMAPClient, which builds on imaplib, behaves the same.
# Versions: Python 3.11.7, IMAPClient 4.1.0, against Cyrus 3.6.1.
# Hurts:    scripts that copy all folders of an account, shared ones included: "except: continue" after select() skips the
#           folder, and the next command raises for no reason to be seen.
set -euo pipefail

work=$(mktemp -d)
trap 'cyrus_stop; rm -rf "$work"' EXIT
. "$(dirname "$(readlink -f "$0")")/cyrus.bash"
cd "$work"
cyrus_install
cyrus_start

python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target lib imapclient==4.1.0 >pip.log 2>&1
PYTHONPATH=lib PORT=$port python3 - <<'PY'
import imaplib, os, sys
import imapclient

PORT = int(os.environ["PORT"])
print("Python", sys.version.split()[0], "IMAPClient", imapclient.__version__)

def connect(user):
    connection = imaplib.IMAP4("127.0.0.1", PORT)
    connection.login(user, "x")
    return connection

admin = connect("cyrus")
admin.create("user/anna")
admin.create("user/bob")
anna = connect("anna")
anna.create("Shared")
anna.append("Shared", None, None, b"From: anna@example.org\r\nSubject: one\r\n\r\nx\r\n")
admin.setacl("user/anna/Shared", "bob", "lr")
SHARED = '"Other Users/anna/Shared"'

def outcome(command):
    try:
        answer = command()
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    return answer[0] if isinstance(answer, tuple) else "OK"

def expect(what, wanted, got):
    print(f"{what:36} {got}")
    if not got.startswith(wanted):
        sys.exit(f"no longer so: expected {wanted}")

bob = connect("bob")
sent = []
send = bob.send
bob.send = lambda data: (sent.append(data), send(data))[1]
expect("select, rights lr:", "raises readonly", outcome(lambda: bob.select(SHARED)))
expect("state of the connection:", "SELECTED", bob.state)
count = len(sent)
for name, command in (("noop", bob.noop), ("list", bob.list), ("fetch", lambda: bob.fetch("1", "FLAGS")),
                      ("status", lambda: bob.status("INBOX", "(MESSAGES)"))):
    expect(name + " after it:", "raises readonly", outcome(command))
expect("bytes sent for these four:", "0", str(sum(map(len, sent[count:]))))
expect("select of the own INBOX:", "OK", outcome(bob.select))
expect("list after that:", "OK", outcome(bob.list))
expect("select, readonly=True:", "OK", outcome(lambda: bob.select(SHARED, readonly=True)))
expect("list after that:", "OK", outcome(bob.list))
client = imapclient.IMAPClient("127.0.0.1", PORT, ssl=False)
client.login("bob", "x")
expect("IMAPClient select_folder:", "raises", outcome(lambda: client.select_folder(SHARED.strip('"'))))
expect("IMAPClient list_folders after it:", "raises", outcome(client.list_folders))
PY
