#!/usr/bin/env python3
"""Fill one user of an IMAP server with mail that is made up, lifelike and always the same.

    loadspool.py --port 11143 --host 127.64.0.7 --user carol --messages 20000 --folders 60
    loadspool.py --port 11143 --host 127.64.0.7 --user carol --messages 20000 --folders 60 --batch 1

The same arguments give the same messages, byte for byte, in the same folders, and in each folder with the same UIDs: folders
are divided between the connections, so nothing races within one. The second command delivers what arrives later: a batch of 50
new messages into the first 5 folders; batch 2 gives the next 50.

Sizes are lognormal, median about 6 KB, mean about 40 KB, at most 8 MB. Text comes from a word model (deflates 2.5 to 3 times),
some of it as HTML; attachments are base64 of data that deflate badly. Some messages are copies of others (IMAP COPY).

Needs APPEND with LITERAL+, MULTIAPPEND and NAMESPACE, as every Cyrus has them. Python 3.9, standard library only.
"""
import argparse
import base64
import hashlib
import math
import random
import re
import socket
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

# ---------------------------------------------------------------- word model
_SYL = ("a an ar be bo ca ce co con de der di dis e en er es ex fa fi for ga ge he ho i im in ing ion is it ja "
        "ke la le li lo ma me men mi mo na ne ni no nt o of on or ou pa pe per pi po pre pro qua ra re ri ro sa se "
        "si so st su ta te ted ter th ti tion to tr tu u un up ur va ve vi wa we wi wo ye").split()
_COMMON = ("the of and to in a is that for it as was with be by on not he i this are or his from at which but have an "
           "had they you were their one all we can her has there been if more when will would who so no out up into "
           "than them its about time some could these two may then do first any my now such like our over man me even "
           "most made after also did many before must through back years where much your way well down should because "
           "each just those people mr how too little state good very make world still own see men work long get here "
           "between both life being under never day same another know while last might us great old year off come since "
           "against go came right used take three please regards thanks meeting schedule invoice attached report "
           "project question update team customer order server mail message folder backup restore reply forward").split()


class Words:
    """A zipf-like vocabulary shared by all messages of one seed."""

    def __init__(self, seed):
        r = random.Random("vocab-%d" % seed)
        vocab, seen = list(_COMMON), set(_COMMON)
        while len(vocab) < 9000:
            w = "".join(r.choice(_SYL) for _ in range(r.choice((2, 2, 3, 3, 3, 4, 4, 5))))
            if 3 <= len(w) <= 14 and w not in seen:
                seen.add(w)
                vocab.append(w)
        self.vocab = vocab
        acc, cum = 0.0, []
        for i in range(len(vocab)):
            acc += 1.0 / (i + 6.0) ** 0.98
            cum.append(acc)
        self.cum = cum
        self.names = [r.choice(_SYL).capitalize() + r.choice(_SYL) + r.choice(_SYL) for _ in range(400)]
        # A pool of sentences: real mail quotes and repeats itself.
        self.pool = [self._sentence(r) for _ in range(3000)]

    def _sentence(self, r):
        n = max(3, int(r.gauss(13, 5)))
        ws = r.choices(self.vocab, cum_weights=self.cum, k=n)
        ws[0] = ws[0].capitalize()
        if n > 9 and r.random() < 0.5:
            ws[n // 2] += ","
        if r.random() < 0.06:
            ws[-1] = "%d" % r.randrange(1, 99999)
        return " ".join(ws) + r.choice((".", ".", ".", ".", "?", "!"))

    def text(self, r, nbytes):
        out, size, line = [], 0, ""
        while size < nbytes:
            s = r.choice(self.pool) if r.random() < 0.12 else self._sentence(r)
            for w in s.split(" "):
                if len(line) + len(w) + 1 > 74:
                    out.append(line)
                    size += len(line) + 2
                    line = w
                else:
                    line = w if not line else line + " " + w
            if r.random() < 0.16:
                out.append(line)
                out.append("")
                size += len(line) + 4
                line = ""
        out.append(line)
        return "\r\n".join(out)[: max(1, nbytes)]


def blob(r, words, nbytes):
    """Attachment content: a mix of random, structured and text stretches."""
    kind = r.random()
    out = bytearray()
    table = [r.randbytes(64) for _ in range(24)]
    while len(out) < nbytes:
        x = r.random()
        if kind < 0.55:          # like a JPEG, a zip or a modern office file
            out += r.randbytes(6000) if x < 0.93 else r.choice(table) * 8
        elif kind < 0.85:        # like a PDF: streams and structure
            if x < 0.6:
                out += r.randbytes(3000)
            elif x < 0.85:
                out += b"".join(b"%010d 00000 n \n" % r.randrange(10 ** 9) for _ in range(60))
            else:
                out += words.text(r, 1500).encode()
        else:                    # like a CSV, a log, an old office file
            if x < 0.7:
                out += b"".join(b"%d;%d.%02d;%s;2025-%02d-%02d\n" % (
                    r.randrange(10 ** 6), r.randrange(5000), r.randrange(100),
                    r.choice(words.names).encode(), r.randrange(1, 13), r.randrange(1, 29)) for _ in range(50))
            else:
                out += b"\0" * r.randrange(64, 700) + r.choice(table)
    return bytes(out[:nbytes])


def b64lines(data):
    s = base64.b64encode(data).decode()
    return "\r\n".join(s[i:i + 76] for i in range(0, len(s), 76))


_DAYS = "Mon Tue Wed Thu Fri Sat Sun".split()
_MONS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def rfc822_date(t):
    g = time.gmtime(t)
    return "%s, %02d %s %04d %02d:%02d:%02d +0000" % (
        _DAYS[g.tm_wday], g.tm_mday, _MONS[g.tm_mon - 1], g.tm_year, g.tm_hour, g.tm_min, g.tm_sec)


def imap_date(t):
    g = time.gmtime(t)
    return "%2d-%s-%04d %02d:%02d:%02d +0000" % (
        g.tm_mday, _MONS[g.tm_mon - 1], g.tm_year, g.tm_hour, g.tm_min, g.tm_sec)


CAP = 8 * 1024 * 1024
_MU, _SIGMA = math.log(6000), 1.95   # mean about 40 KB before the cap


def make_message(seed, i, words):
    """Message i of this seed: (bytes, internal date)."""
    r = random.Random("msg-%d-%d" % (seed, i))
    target = int(min(CAP, max(900, r.lognormvariate(_MU, _SIGMA))))
    t = 1577836800 + int(i * 7919 + r.random() * 5e7) % 190000000
    frm, to = r.choice(words.names), r.choice(words.names)
    subj = " ".join(r.choices(words.vocab, cum_weights=words.cum, k=r.randrange(2, 9)))
    mid = hashlib.sha1(b"%d-%d" % (seed, i)).hexdigest()[:24]
    b = "=_" + mid[:16]
    h = []
    ip = "203.0.113.%d" % r.randrange(1, 255)
    h.append("Return-Path: <%s@example.org>" % frm.lower())
    for k in range(r.randrange(2, 5)):
        h.append("Received: from mx%d.example.org (mx%d.example.org [%s])\r\n\tby store%d.example.net (Cyrus 3) with "
                 "LMTPA;\r\n\t%s" % (k, k, ip, k % 3, rfc822_date(t + 2 - k)))
    if r.random() < 0.7:
        h.append("DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=s1;\r\n\th=from:to:subject:"
                 "date:message-id; bh=%s;\r\n\tb=%s\r\n\t %s" % (
                     base64.b64encode(r.randbytes(32)).decode(), base64.b64encode(r.randbytes(48)).decode(),
                     base64.b64encode(r.randbytes(48)).decode()))
    h.append("Date: %s" % rfc822_date(t))
    h.append("From: %s <%s@example.org>" % (frm, frm.lower()))
    h.append("To: %s <%s@example.net>" % (to, to.lower()))
    h.append("Subject: %s" % subj)
    h.append("Message-ID: <%s@example.org>" % mid)
    h.append("MIME-Version: 1.0")
    room = max(200, target - sum(len(x) + 2 for x in h) - 200)
    style = r.random()
    if target > 24000 and style < 0.80:              # text + attachment(s)
        text_n = min(room // 4, int(r.lognormvariate(math.log(1800), 0.8)) + 200)
        att_room = room - text_n - 500
        n_att = 1 if r.random() < 0.7 else r.randrange(2, 4)
        parts = ["--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n%s\r\n" % (b, words.text(r, text_n))]
        for k in range(n_att):
            raw = int(att_room / n_att * 74 / 102)
            typ, ext = r.choice((("application/pdf", "pdf"), ("image/jpeg", "jpg"), ("application/zip", "zip"),
                                 ("text/csv", "csv"), ("application/octet-stream", "bin")))
            parts.append("--%s\r\nContent-Type: %s; name=\"file%d.%s\"\r\nContent-Transfer-Encoding: base64\r\n"
                         "Content-Disposition: attachment; filename=\"file%d.%s\"\r\n\r\n%s\r\n" % (
                             b, typ, k, ext, k, ext, b64lines(blob(r, words, max(60, raw)))))
        h.append("Content-Type: multipart/mixed; boundary=\"%s\"" % b)
        body = "".join(parts) + "--%s--\r\n" % b
    elif style < 0.62:                                # text and HTML
        txt = words.text(r, room * 2 // 5)
        paras = "".join("<p style=\"margin:0 0 12px 0;font-family:Arial,sans-serif\">%s</p>\r\n" % p.replace("\r\n", " ")
                        for p in words.text(r, room // 2).split("\r\n\r\n"))
        lines, cur = [], ""
        for w in paras.split(" "):
            if len(cur) + len(w) > 200:
                lines.append(cur)
                cur = w
            else:
                cur = w if not cur else cur + " " + w
        lines.append(cur)
        h.append("Content-Type: multipart/alternative; boundary=\"%s\"" % b)
        body = ("--%s\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n%s\r\n--%s\r\nContent-Type: text/html; "
                "charset=us-ascii\r\n\r\n<html><body>\r\n%s\r\n</body></html>\r\n--%s--\r\n" % (
                    b, txt, b, "\r\n".join(lines), b))
    else:
        h.append("Content-Type: text/plain; charset=us-ascii")
        body = words.text(r, room) + "\r\n"
    return ("\r\n".join(h) + "\r\n\r\n" + body).encode("ascii"), t


# ---------------------------------------------------------------- IMAP client
class Imap:
    """As much of IMAP as this needs; any answer but OK ends the program."""

    def __init__(self, host, port, user, password):
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.socket.makefile("rb", 1 << 16)
        self.commands = 0
        self.lines.readline()
        self.command("LOGIN %s %s" % (quoted(user), quoted(password)))

    def send(self, text):
        self.socket.sendall(text if isinstance(text, bytes) else text.encode())

    def next_tag(self):
        self.commands += 1
        return "a%d" % self.commands

    def answer(self, tag, command, may_fail=False):
        out = []
        while True:
            line = self.lines.readline().decode("utf-8", "replace").rstrip("\r\n")
            if not line:
                sys.exit("IMAP: connection closed")
            out.append(line)
            if line.startswith(tag + " "):
                if not may_fail and not line.startswith(tag + " OK"):
                    sys.exit("IMAP: %s: %s" % (command, line))
                return out

    def command(self, text, may_fail=False):
        tag = self.next_tag()
        self.send("%s %s\r\n" % (tag, text))
        return self.answer(tag, text, may_fail)

    def append(self, folder, batch):
        """batch: list of (bytes, flags, internal date)."""
        tag = self.next_tag()
        self.send("%s APPEND %s" % (tag, quoted(folder)))
        for data, flags, when in batch:
            self.send(" (%s) \"%s\" {%d+}\r\n" % (" ".join(flags), imap_date(when), len(data)))
            self.send(data)
        self.send("\r\n")
        self.answer(tag, "APPEND " + folder)

    def namespace(self):
        """Prefix and hierarchy separator of the user's own folders; the server tells only once there is an INBOX."""
        found = re.search(r'NAMESPACE \(\("([^"]*)" "(.)"\)', " ".join(self.command("NAMESPACE")))
        return found.group(1), found.group(2)

    def uidnext(self, folder):
        return int(re.search(r"UIDNEXT (\d+)", " ".join(self.command("STATUS %s (UIDNEXT)" % quoted(folder)))).group(1))


def quoted(s):
    return '"' + s.replace("\\", "\\\\").replace('"', '\\"') + '"'


# ---------------------------------------------------------------- the plan
def folder_names(count, prefix, sep):
    """INBOX and `count - 1` others; every fifth lies below its neighbour."""
    names = ["INBOX"]
    for k in range(1, count):
        names.append(prefix + ("F%02d" % k if k % 5 else "F%02d%sSub %d" % (k - 1, sep, k)))
    return names


class Plan:
    """Which messages go where: `new` is {folder: [message number]}, `copies` is [(from, place in its list, to)]."""

    def __init__(self, seed, first, messages, copies, folders):
        r = random.Random("plan-%d-%d" % (seed, first))
        weights = [1.0 / (k + 3) ** 0.6 for k in range(len(folders))]
        self.new = {name: [] for name in folders}
        for i in range(first, first + messages - copies):
            self.new[r.choices(folders, weights)[0]].append(i)
        self.copies = []
        for _ in range(copies if len(folders) > 1 else 0):
            source, target = r.sample(folders, 2)
            if self.new[source]:
                self.copies.append((source, r.randrange(len(self.new[source])), target))
        self.copies.sort()


FLAGS = ([], ["\\Seen"], ["\\Seen"], ["\\Seen", "\\Answered"], ["\\Flagged", "\\Seen"], ["\\Seen", "$Label1"])


def batches(seed, words, numbers):
    """The messages of these numbers with flags and dates, in groups that one APPEND takes."""
    batch, size = [], 0
    for i in numbers:
        data, when = make_message(seed, i, words)
        batch.append((data, FLAGS[random.Random("fl-%d-%d" % (seed, i)).randrange(len(FLAGS))], when))
        size += len(data)
        if len(batch) >= 40 or size > 4 << 20:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def deliver(args, plan, words):
    """Appends and copies what the plan says; gives (messages appended, bytes)."""

    def connect():
        return Imap(args.host, args.port, args.user, args.password)

    def fill(folders):
        imap, count, size = connect(), 0, 0
        for folder in folders:
            for batch in batches(args.seed, words, plan.new[folder]):
                imap.append(folder, batch)
                count += len(batch)
                size += sum(len(data) for data, _, _ in batch)
        imap.command("LOGOUT")
        return count, size

    imap = connect()
    first_uid = {folder: imap.uidnext(folder) for folder in plan.new}
    shares = [list(plan.new)[k::args.connections] for k in range(args.connections)]
    with ThreadPoolExecutor(args.connections) as pool:
        totals = list(pool.map(fill, [share for share in shares if share]))
    selected = None
    for source, place, target in plan.copies:
        if source != selected:
            imap.command("SELECT " + quoted(source))
            selected = source
        imap.command("UID COPY %d %s" % (first_uid[source] + place, quoted(target)))
    imap.command("LOGOUT")
    return sum(count for count, _ in totals), sum(size for _, size in totals)


def print_sizes(seed, plan, words):
    """What the messages of a plan are like, without any server."""
    messages = [make_message(seed, i, words)[0] for numbers in plan.new.values() for i in numbers]
    sizes = sorted(len(m) for m in messages)
    deflated = sum(len(zlib.compress(m, 6)) for m in messages)
    print("messages %d bytes %d median %d mean %d max %d deflate ratio %.2f" % (
        len(sizes), sum(sizes), sizes[len(sizes) // 2], sum(sizes) // len(sizes), sizes[-1], sum(sizes) / deflated))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=143)
    parser.add_argument("--user", required=True)
    parser.add_argument("--password", default="any")
    parser.add_argument("--folders", type=int, default=60, help="how many, with INBOX")
    parser.add_argument("--messages", type=int, default=20000, help="how many, with the copies")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--copies", type=float, default=0.08, help="share of messages that are copies (default 0.08)")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--batch", type=int, default=0, metavar="N", help="deliver the Nth batch that arrives later, from 1 on")
    parser.add_argument("--batch-messages", type=int, default=50)
    parser.add_argument("--batch-folders", type=int, default=5)
    parser.add_argument("--dry-run", action="store_true", help="only make the messages and print what they are like")
    return parser.parse_args()


def main():
    args = arguments()
    words = Words(args.seed)
    prefix, sep = "", "/"
    if not args.dry_run:
        imap = Imap(args.host, args.port, args.user, args.password)
        imap.command("CREATE INBOX", may_fail=True)  # it may be there
        prefix, sep = imap.namespace()
    folders = folder_names(args.folders, prefix, sep)
    if args.batch:
        # The first batch takes the numbers after those of the full load.
        first = args.messages + (args.batch - 1) * args.batch_messages
        plan = Plan(args.seed, first, args.batch_messages, 0, folders[: args.batch_folders])
    else:
        plan = Plan(args.seed, 0, args.messages, int(args.messages * args.copies), folders)
    if args.dry_run:
        print_sizes(args.seed, plan, words)
        return
    started = time.time()
    for folder in folders[1:]:
        imap.command("CREATE " + quoted(folder), may_fail=True)
    imap.command("LOGOUT")
    count, size = deliver(args, plan, words)
    print("appended %d messages, %d bytes, copied %d, folders %d, %.1f s" % (
        count, size, len(plan.copies), len(plan.new), time.time() - started))


if __name__ == "__main__":
    main()
