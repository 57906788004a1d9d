#!/usr/bin/env python3
"""A client of the stock dialect, written from core/PROTOCOL.md and from nothing else: it shares no code with Cylinder.

    stock_client.py --out DIR (--tcp HOST:PORT | --unix PATH | --run COMMAND) [--slot NAME] [USER...]

Backs up the users (all if none is named) in the order of section 2.8: DIR/USER.tar, plain tar with the names that
Cyrus::Backup gives, is made or appended to; DIR/USER.json has the tuples of the last run, and goes without harm.
Prints a line for each user; exits 1 at the first thing that is not as the page says.
"""
import argparse, hashlib, io, json, os, re, socket, struct, subprocess, sys, tarfile, time, zlib
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

FILES = ["header", "index", "annotations", "mailbox_annotations"]
LINE_MAX, UIDS_MAX = 65536, 1024


class Wrong(Exception):
    """The server did not do what the page says."""


class Connection:
    def __init__(self, args):
        if args.run:
            self.child = subprocess.Popen(args.run, shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.input, self.output = self.child.stdout, self.child.stdin
        else:
            if args.unix:
                peer = socket.socket(socket.AF_UNIX)
                peer.connect(args.unix)
            else:
                host, port = args.tcp.rsplit(":", 1)
                peer = socket.create_connection((host, int(port)))
            peer.settimeout(60)
            self.input, self.output = peer.makefile("rb"), peer.makefile("wb")
        self.slot = args.slot or self.learn()

    def learn(self):
        """The server's name, which it tells whoever calls it by another."""
        self.send("META", "-", "-")
        found = re.fullmatch(rb"NO iam (\S+)", self.line())
        if not found:
            raise Wrong("no `NO iam`")
        return found[1].decode()

    def send(self, *words):
        self.output.write(" ".join(words).encode() + b"\n")
        self.output.flush()

    def line(self):
        line = self.input.readline(LINE_MAX)
        if not line.endswith(b"\n"):
            raise Wrong(f"the stream ends inside of an answer: {line[:80]!r}")
        return line[:-1]

    def ask(self, verb, *words):
        """Items of one answer as lists of words, blocks with their content as the last; and the words of its DONE."""
        self.send(verb, self.slot, *words)
        first = self.line()
        if first != b"OK":
            raise Wrong(f"{verb} {words[:2]}: {first!r}")
        items = []
        while True:
            raw = self.line()
            words = [unquote_to_bytes(word) for word in raw.split(b" ")]
            if words[0] == b"DONE":
                if words[1] != verb.encode():
                    raise Wrong(f"{verb} ends with {raw!r}")
                return items, words[2:]
            if words[0] == b"DATA":
                words.append(self.block(words))
            items.append(words)

    def block(self, words):
        size = int(words[2])
        content = self.input.read(size)
        done = self.line()
        if done != b"DONE %s %s" % (quote_from_bytes(words[1], safe="").encode(), hashlib.sha1(content).hexdigest().encode()):
            raise Wrong(f"{words}: {len(content)} bytes, {done!r}")
        return content


def records(index):
    """UID, GUID and flags of each record of a cyrus.index."""
    version, start, size, count = struct.unpack_from(">4I", index, 8)
    if not 10 <= version <= 20:
        raise Wrong(f"cyrus.index of version {version}")
    for at in range(start, start + size * count, size):
        record = index[at:at + size]
        if version >= 12 and zlib.crc32(record[:-4]) != struct.unpack(">I", record[-4:])[0]:
            raise Wrong(f"CRC of the record at {at}")
        yield struct.unpack_from(">I", record)[0], record[60:80].hex(), struct.unpack_from(">I", record, 36 if version == 20 else 32)[0]


class User:
    """One run over one user."""

    def __init__(self, connection, user, out):
        self.connection, self.user, self.new, self.read = connection, quote(user, safe=""), 0, 0
        self.state_file = os.path.join(out, f"{self.user}.json")
        self.old = {"tuples": {}, "folders": {}, "files": []}
        if os.path.exists(self.state_file):
            with open(self.state_file) as file:
                self.old = json.load(file)
        self.had, self.tuples, self.folders = set(self.old["files"]), {}, {}
        self.tar = tarfile.open(os.path.join(out, f"{self.user}.tar"), "a")

    def add(self, name, content, mtime):
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime, entry.linkname = len(content), mtime, hashlib.sha1(content).hexdigest()
        self.tar.addfile(entry, io.BytesIO(content))

    def link(self, name, target):
        entry = tarfile.TarInfo("imap/" + name)
        entry.type, entry.linkname, entry.mtime = tarfile.SYMTYPE, target, int(time.time())
        self.tar.addfile(entry)

    def fetch(self, verb, prefix, *words):
        """Files by name; their tuples become those of this run."""
        items, done = self.connection.ask(verb, self.user, *words)
        found = {item[1].decode(): item for item in items if item[0] == b"DATA"}
        for name, item in found.items():
            self.tuples[prefix + name] = [int(word) for word in item[2:5]]
        return found, done

    def meta(self):
        for item in self.connection.ask("META", self.user)[0]:
            name, now = item[1].decode(), [int(word) for word in item[2:5]]
            self.tuples["meta/" + name] = now
            if self.old["tuples"].get("meta/" + name) != now:
                for name, item in self.fetch("META", "meta/", name)[0].items():
                    self.add("meta/" + name, item[5], int(item[3]))

    def messages(self, folder, index):
        wanted = {uid: guid for uid, guid, flags in records(index) if not flags & 1 << 30 and guid not in self.had}
        uids = list(wanted)
        for at in range(0, len(uids), UIDS_MAX):
            some = uids[at:at + UIDS_MAX]
            items, _ = self.connection.ask("FDATA", self.user, quote_from_bytes(folder, safe=""), *map(str, some))
            if [(item[0], item[1]) for item in items] != [(b"DATA", str(uid).encode()) for uid in some]:
                raise Wrong(f"FDATA {folder}: {[item[:2] for item in items]}")
            for uid, item in zip(some, items):
                if hashlib.sha1(item[5]).hexdigest() != wanted[uid]:
                    raise Wrong(f"message {uid} of {folder} is not what the index says")
                if wanted[uid] not in self.had:
                    self.had.add(wanted[uid])
                    self.add("files/" + wanted[uid], item[5], int(item[3]))
                    self.new += 1

    def folder(self, folder, uniqueid, now):
        prefix, name = f"folders/{uniqueid}/cyrus.", folder.decode()
        before = {key: value for key, value in self.old["tuples"].items() if key.startswith(prefix)}
        self.folders[name] = uniqueid
        if self.old["folders"].get(name) == uniqueid and before == now:
            self.tuples.update(now)
            return
        self.read += 1
        found, done = self.fetch("FMETA", prefix, quote_from_bytes(folder, safe=""), *FILES)
        if done[0].decode() != uniqueid or not {"header", "index"} <= set(found):
            raise Wrong(f"FMETA {folder}: {done}, {list(found)}")
        self.messages(folder, found["index"][5])
        for file in FILES:
            if file in found:
                self.add(prefix + file, found[file][5], int(found[file][3]))
            elif prefix + file in before:
                self.tar.addfile(tarfile.TarInfo(prefix + file))
        if self.old["folders"].get(name) != uniqueid:
            self.link(name, f"../folders/{uniqueid}")

    def run(self):
        self.meta()
        folders, stats = {}, {}
        for item in self.connection.ask("FMULTISTATUS", self.user)[0]:
            if item[0] == b"FOLDER":
                folders[item[1]] = item[2].decode()
            elif item[0] == b"STAT":
                key = f"folders/{folders[item[1]]}/cyrus.{item[2].decode()}"
                stats.setdefault(item[1], {})[key] = [int(word) for word in item[3:6]]
        for folder, uniqueid in folders.items():
            self.folder(folder, uniqueid, stats.get(folder, {}))
        for name in set(self.old["folders"]) - set(self.folders):
            self.link(name, "")
        self.tar.close()
        with open(self.state_file, "w") as file:
            json.dump({"tuples": self.tuples, "folders": self.folders, "files": sorted(self.had)}, file)
        print(f"{self.user}: {len(folders)} folders, {self.read} read, {self.new} new messages, {len(self.had)} in all", flush=True)


def main():
    options = argparse.ArgumentParser()
    for name in ["out", "tcp", "unix", "run", "slot"]:
        options.add_argument("--" + name, required=name == "out")
    options.add_argument("users", nargs="*")
    args = options.parse_args()
    connection = Connection(args)
    users = args.users or [item[1].decode() for item in connection.ask("USERS")[0]]
    for user in users:
        User(connection, user, args.out).run()
    connection.send("QUIT")
    if connection.line() != b"OK":
        raise Wrong("QUIT")


try:
    main()
except Wrong as wrong:
    sys.exit(f"stock_client.py: {wrong}")
