#!/bin/bash
# Two lock libraries, one lock file, two holders.
#
# Guess:    Python programs that lock the same file with filelock, portalocker, fasteners or zc.lockfile exclude each other;
#           on Linux all of them "use fcntl".
# Reality:  filelock, portalocker and zc.lockfile call flock(), fasteners (and with it oslo.concurrency) calls fcntl's lockf().
#           The kernel keeps the two apart: both get the exclusive lock at once, and neither is told. The same goes for the
#           program flock against Cyrus, SQLite and everything else that locks by fcntl.
# Versions: filelock 4.3.1, portalocker 4.4.2, zc.lockfile 4.0, fasteners 0.20, util-linux 2.38, on Linux.
# Hurts:    a cron job that guards itself with flock(1) beside a tool with another library; whoever changes the library between
#           two releases, while the old one is still running.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target lib \
  filelock==4.3.1 portalocker==4.4.2 zc.lockfile==4.0 fasteners==0.20 >pip.log 2>&1
export PYTHONPATH=$work/lib
flock --version
python3 - <<'PY'
import subprocess, sys
from importlib.metadata import version

print(", ".join(f"{name} {version(name)}" for name in ("filelock", "portalocker", "zc.lockfile", "fasteners")))
TAKE = {
    "filelock": "import filelock; held = filelock.FileLock('lock'); held.acquire(timeout=0)",
    "portalocker": "import portalocker; held = portalocker.Lock('lock', timeout=0); held.acquire()",
    "zc.lockfile": "import zc.lockfile; held = zc.lockfile.LockFile('lock')",
    "fasteners": "import fasteners; held = fasteners.InterProcessLock('lock'); assert held.acquire(blocking=False)",
    "fcntl.lockf": "import fcntl; held = open('lock', 'a'); fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)",
}
KIND = {name: "fcntl" if name in ("fasteners", "fcntl.lockf") else "flock" for name in [*TAKE, "flock(1)"]}

def second_gets_it(name):
    command = ["flock", "-n", "lock", "true"] if name == "flock(1)" else [sys.executable, "-c", TAKE[name]]
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0

for first, code in TAKE.items():
    holder = subprocess.Popen([sys.executable, "-c", code + "\nprint('held', flush=True); input()"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    both = [second for second in KIND if second_gets_it(second)]
    print(f"{first} holds the lock; {' and '.join(both)} get it too")
    holder.communicate("\n")
    expected = [second for second in KIND if KIND[second] != KIND[first]]
    if both != expected:
        sys.exit(f"no longer so: expected {expected}")
PY
