#!/bin/bash
# flufl.lock: a lock ends after 15 seconds, though its holder lives and works.
#
# Guess:    a lock is held until it is released or its holder dies.
# Reality:  a flufl.lock has a lifetime, 15 s unless the caller of Lock() thought of giving another. After that (and a
#           margin of ten seconds or so) the next process that waits breaks it, without a look at whether the holder's process
#           still runs. The holder gets no signal; it learns of it only by asking is_locked, or by NotLockedError at the end.
# Versions: flufl.lock 10.0.0.
# Hurts:    long jobs under the default lock, such as a backup: the next one starts beside it, and both write.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target lib flufl.lock==10.0.0 >pip.log 2>&1
export PYTHONPATH=$work/lib
python3 - <<'PY'
import subprocess, sys, time
from datetime import timedelta
from flufl.lock import Lock, NotLockedError, TimeOutError
from importlib.metadata import version

print("flufl.lock", version("flufl.lock"), "default lifetime", Lock("other").lifetime)
assert Lock("other").lifetime == timedelta(seconds=15)
SECOND = """
import time
from datetime import timedelta
from flufl.lock import Lock, TimeOutError
lock = Lock("lock", lifetime=timedelta(seconds=60))
try:
    lock.lock(timeout=timedelta(seconds=WAIT))
    print("got it", flush=True)
    input()
except TimeOutError:
    print("timed out", flush=True)
"""

def second(wait):
    process = subprocess.Popen([sys.executable, "-c", SECOND.replace("WAIT", str(wait))],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return process, process.stdout.readline().strip()

# Two seconds, to save time: the default is the same with 15.
lock = Lock("lock", lifetime=timedelta(seconds=2))
lock.lock()
began = time.monotonic()
process, answer = second(1)
print("the holder works; another process, at once:", answer)
assert answer == "timed out", answer
process, answer = second(40)
print(f"the holder still works; another process, after {time.monotonic() - began:.0f} s: {answer}")
if answer != "got it":
    sys.exit("no longer so: expected that the lock is broken")
print("the holder asks is_locked:", lock.is_locked)
try:
    lock.unlock()
    sys.exit("no longer so: expected NotLockedError")
except NotLockedError:
    print("the holder unlocks: NotLockedError")
process.communicate("\n")
PY
