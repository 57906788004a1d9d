#!/bin/bash
# croniter: a range of one value, such as 1-1 or 3-3, means every value.
#
# Guess:    `0 3-3 * * *` is 03:00 and `0 3 * * 1-1` is Monday, as in cron, where a range from a value to itself is that value.
# Reality:  since ranges may run over the end (5-1, 22-2), a range of equal ends runs all the way round: every hour, every day of
#           the week, every day of the month, without an error. Release 2.0.7 still took one value. cronsim and the npm
#           packages croner and cron-parser take one value.
# Versions: croniter 7.0.0 and 6.0.0, not 2.0.7; cronsim 2.8, croner 11.0.1, cron-parser 5.10.6.
# Hurts:    crontabs written by programs, which print FROM-TO also when both are the same: the nightly full backup runs hourly.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-36s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

for version in 2.0.7 6.0.0 7.0.0; do
  python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target "croniter-$version" \
    croniter==$version >pip.log 2>&1
done
python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target cronsim-2.8 cronsim==2.8 >pip.log 2>&1
npm install --silent --no-audit --no-fund --prefix . croner@11.0.1 cron-parser@5.10.6 >/dev/null
export TZ=UTC

# How often a line comes up in the four weeks from Monday, 31 May 2027, 11:59, on.
count() {
  case $1 in
    croniter-* | cronsim-*)
      PYTHONPATH=$1 python3 - "$@" <<'PY'
import sys
from datetime import datetime
program, line = sys.argv[1:]
start, end = datetime(2027, 5, 31, 11, 59), datetime(2027, 6, 28, 11, 59)
if program.startswith("croniter"):
    from croniter import croniter
    times = croniter(line, start, ret_type=datetime)
else:
    from cronsim import CronSim
    times = CronSim(line, start)
count = 0
for time in times:
    if time >= end:
        break
    count += 1
print(count)
PY
      ;;
    *)
      node -e '
        const [program, line] = process.argv.slice(1)
        let now = new Date("2027-05-31T11:59:00Z")
        const next = {
          croner: () => new (require("croner").Cron)(line, { timezone: "UTC", paused: true }).nextRun(now),
          "cron-parser": () => require("cron-parser").CronExpressionParser.parse(line, { currentDate: now, tz: "UTC" }).next().toDate(),
        }[program]
        let count = 0
        while ((now = next()) < new Date("2027-06-28T11:59:00Z")) count++
        console.log(count)' "$@"
      ;;
  esac
}

# A line, how often it is meant to run in that time, and how often croniter runs it.
while IFS=, read -r line one all; do
  for program in croniter-7.0.0 croniter-6.0.0; do expect "$line, $program:" "$all" "$(count $program "$line")"; done
  for program in croniter-2.0.7 cronsim-2.8 croner cron-parser; do expect "$line, $program:" "$one" "$(count $program "$line")"; done
done <<'END'
0 3-3 * * *,28,672
0 3 * * 1-1,4,28
0 3 15-15 * *,1,28
END
