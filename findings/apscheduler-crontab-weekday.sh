#!/bin/bash
# APScheduler's from_crontab counts weekdays from Monday, and wants both days to match.
#
# Guess:    CronTrigger.from_crontab("0 3 * * 0") fires on Sundays, for that is what 0 means in a crontab.
# Reality:  it fires on Mondays. 7, Sunday in most crons, raises ValueError, and 1-5 is Tuesday to Saturday. `0 3 1 * mon` fires
#           only if the first of the month is a Monday, where cron fires on either. Names (sun, mon-fri) are right.
# Versions: APScheduler 3.11.0; croniter 7.0.0 and cronsim 2.8 follow cron.
# Hurts:    crontab lines that are carried over as they are: the full backup of Sunday night runs into Monday morning's load,
#           and the one "on the first and every Monday" all but never.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target lib \
  apscheduler==3.11.0 croniter==7.0.0 cronsim==2.8 >pip.log 2>&1
pip freeze --path lib | grep -iE 'apscheduler|cron'
PYTHONPATH=lib TZ=UTC python3 - <<'PY'
import sys
from datetime import datetime, timezone
from apscheduler.triggers.cron import CronTrigger
from croniter import croniter
from cronsim import CronSim

START = datetime(2027, 6, 5, 12, tzinfo=timezone.utc)

def apscheduler(line):
    return CronTrigger.from_crontab(line, timezone=timezone.utc).get_next_fire_time(None, START)

def by_croniter(line):
    return croniter(line, START).get_next(datetime)

def by_cronsim(line):
    return next(CronSim(line, START))

def expect(what, wanted, got):
    print(f"{what:44} {got}")
    if got != wanted:
        sys.exit(f"no longer so: expected {wanted}")

def shown(time):
    return time.strftime("%a %Y-%m-%d")

for line, cron, here in (("0 3 * * 0", "Sun 2027-06-06", "Mon 2027-06-07"), ("0 3 * * sun", "Sun 2027-06-06", "Sun 2027-06-06"),
                         ("0 3 * * 1-5", "Mon 2027-06-07", "Tue 2027-06-08"), ("0 3 1 * mon", "Mon 2027-06-07", None)):
    expect(f"{line}, croniter:", cron, shown(by_croniter(line)))
    expect(f"{line}, cronsim:", cron, shown(by_cronsim(line)))
    if here:
        expect(f"{line}, APScheduler:", here, shown(apscheduler(line)))
fire = apscheduler("0 3 1 * mon")
expect("0 3 1 * mon, APScheduler, day and weekday:", (1, "Mon"), (fire.day, fire.strftime("%a")))
print("   ", fire)
try:
    expect("0 3 * * 7, APScheduler:", "ValueError", shown(apscheduler("0 3 * * 7")))
except ValueError as error:
    print("0 3 * * 7, APScheduler: ValueError:", error)
PY
