#!/bin/bash
# `0 3 */2 * 1` means two nights a month to one cron library and seventeen to four others.
#
# Guess:    libraries that read cron's five fields agree with cron. If day of month and day of week are both restricted,
#           either of them is enough.
# Reality:  not if a field begins with `*`. cronsim, written to do as Debian's cron does, counts `*/2` as not restricted, and
#           then both days have to match: two Mondays in the month shown here. croniter, and the npm packages cron, croner
#           and cron-parser, take either: every odd day and every Monday. With `1-31/2` in the place of `*/2` all agree.
# Versions: cronsim 2.8, croniter 7.0.0, cron 4.4.0, croner 11.0.1, cron-parser 5.10.6.
# Hurts:    full backups "every second Monday" that are moved from a crontab into a scheduler: they run 17 times a month.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-30s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target lib croniter==7.0.0 cronsim==2.8 >pip.log 2>&1
npm install --silent --no-audit --no-fund --prefix . cron@4.4.0 croner@11.0.1 cron-parser@5.10.6 luxon@3.7.2 >/dev/null
export PYTHONPATH=$work/lib TZ=UTC
pip freeze --path lib | grep -i cron

# The days of June 2027 (a month that begins on a Tuesday) that a program finds.
days() {
  case $1 in
    croniter | cronsim)
      python3 - "$@" <<'PY'
import sys
from datetime import datetime, timedelta
from croniter import croniter
from cronsim import CronSim
program, line = sys.argv[1:]
start = datetime(2027, 5, 31, 12)
if program == "croniter":
    times = iter(lambda found=croniter(line, start): found.get_next(datetime), None)
else:
    times = CronSim(line, start)
found = []
for time in times:
    if time >= datetime(2027, 7, 1):
        break
    found.append(time.day)
print(*found)
PY
      ;;
    *)
      node -e '
        const [program, line] = process.argv.slice(1)
        const { DateTime } = require("luxon")
        let now = new Date("2027-05-31T12:00:00Z")
        const next = {
          cron: () => new (require("cron").CronTime)(line, "UTC").getNextDateFrom(DateTime.fromJSDate(now, { zone: "UTC" }), "UTC").toJSDate(),
          croner: () => new (require("croner").Cron)(line, { timezone: "UTC", paused: true }).nextRun(now),
          "cron-parser": () => require("cron-parser").CronExpressionParser.parse(line, { currentDate: now, tz: "UTC" }).next().toDate(),
        }[program]
        const days = []
        while ((now = new Date(next())) < new Date("2027-07-01T00:00:00Z")) days.push(now.getUTCDate())
        console.log(days.join(" "))' "$@"
      ;;
  esac
}

both="7 21"
either="1 3 5 7 9 11 13 14 15 17 19 21 23 25 27 28 29"
expect "*/2 and Monday, cronsim:" "$both" "$(days cronsim '0 3 */2 * 1')"
for program in croniter cron croner cron-parser; do
  expect "*/2 and Monday, $program:" "$either" "$(days $program '0 3 */2 * 1')"
done
for program in cronsim croniter cron croner cron-parser; do
  expect "1-31/2 and Monday, $program:" "$either" "$(days $program '0 3 1-31/2 * 1')"
done
