#!/bin/bash
# A systemd timer at 02:30 does not elapse in the night in which the clock goes forward.
#
# Guess:    a daily timer elapses every day; in the night without 02:30 it elapses at 03:00 or 03:30, as cron jobs do.
# Reality:  for OnCalendar=*-*-* 02:30:00 in Europe/Berlin the next time after Saturday noon is Monday 02:30, 37.5 hours later.
#           Persistent=true does not help, because nothing was missed. croniter, cronsim and the npm packages cron and croner
#           give 03:00 for `30 2 * * *`, cron-parser gives 03:30. In the autumn night systemd elapses once, as is right.
# Versions: systemd 252 (Debian 12), croniter 7.0.0, cronsim 2.8, cron 4.4.0, croner 11.0.1, cron-parser 5.10.6.
# Hurts:    nightly backups between 02:00 and 03:00 local time, and alarms at "older than 26 hours". OnCalendar=... UTC is safe.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-32s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target lib \
  croniter==7.0.0 cronsim==2.8 tzdata==2026.6 >pip.log 2>&1
npm install --silent --no-audit --no-fund --prefix . cron@4.4.0 croner@11.0.1 cron-parser@5.10.6 luxon@3.7.2 >/dev/null
export PYTHONPATH=$work/lib
systemd-analyze --version | sed -n 1p

timer() {
  TZ=Europe/Berlin systemd-analyze calendar --base-time="$1" "$2" | sed -n 's/^ *Next elapse: //p'
}
by_python() {
  python3 - <<PY
from datetime import datetime
from zoneinfo import ZoneInfo
from croniter import croniter
from cronsim import CronSim
start = datetime(2027, 3, 27, 12, tzinfo=ZoneInfo("Europe/Berlin"))
print((croniter("30 2 * * *", start).get_next(datetime) if "$1" == "croniter" else next(CronSim("30 2 * * *", start))).isoformat())
PY
}
by_node() {
  node -e '
    const [start, tz, line] = [new Date("2027-03-27T11:00:00Z"), "Europe/Berlin", "30 2 * * *"]
    const { DateTime } = require("luxon")
    const next = {
      cron: () => new (require("cron").CronTime)(line, tz).getNextDateFrom(DateTime.fromJSDate(start, { zone: tz }), tz).toJSDate(),
      croner: () => new (require("croner").Cron)(line, { timezone: tz, paused: true }).nextRun(start),
      "cron-parser": () => require("cron-parser").CronExpressionParser.parse(line, { currentDate: start, tz }).next().toDate(),
    }
    console.log(DateTime.fromJSDate(new Date(next[process.argv[1]]()), { zone: tz }).toISO({ suppressMilliseconds: true }))' "$1"
}

expect "systemd, spring:" "Mon 2027-03-29 02:30:00 CEST" "$(timer '2027-03-27 12:00:00' '*-*-* 02:30:00')"
expect "systemd, any other night:" "Sun 2027-03-21 02:30:00 CET" "$(timer '2027-03-20 12:00:00' '*-*-* 02:30:00')"
expect "systemd, autumn:" "Sun 2027-10-31 02:30:00 CEST" "$(timer '2027-10-30 12:00:00' '*-*-* 02:30:00')"
expect "systemd, autumn, after that:" "Mon 2027-11-01 02:30:00 CET" "$(timer '2027-10-31 03:00:00' '*-*-* 02:30:00')"
expect "systemd, spring, UTC:" "Sun 2027-03-28 03:30:00 CEST" "$(timer '2027-03-27 12:00:00' '*-*-* 01:30:00 UTC')"
for program in croniter cronsim; do
  expect "$program, spring:" "2027-03-28T03:00:00+02:00" "$(by_python $program)"
done
for program in cron croner; do
  expect "$program, spring:" "2027-03-28T03:00:00+02:00" "$(by_node $program)"
done
expect "cron-parser, spring:" "2027-03-28T03:30:00+02:00" "$(by_node cron-parser)"
