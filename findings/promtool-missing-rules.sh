#!/bin/bash
# promtool test rules: a test of an alert passes though the file of rules is not there.
#
# Guess:    a unit test that names a rule file which does not exist, or an alert that no rule defines, fails.
# Reality:  a missing file is a warning. A test that expects that no alert is raised then says SUCCESS and exits 0; so does one
#           with a misspelt alertname. `promtool check rules` prints FAILED for duplicate rules and exits 0 too, unless it is
#           given --lint-fatal.
# Versions: promtool of Prometheus 2.42.0 (Debian 12).
# Hurts:    "alert if the last backup is too old", tested in CI: after the file is moved the tests stay green, and there is no
#           alert. Each alert needs a test in which it is raised.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-48s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

apt-get -q -o APT::Sandbox::User=root download prometheus=2.42.0+ds-5+deb12u1 >/dev/null
dpkg -x prometheus_*.deb root
promtool() { root/usr/bin/promtool "$@"; }
promtool --version | sed -n 1p

cat >rules.yml <<'YML'
groups:
  - name: backup
    rules:
      - alert: BackupTooOld
        expr: backup_age_seconds > 100000
YML
# A test in which the age grows to 50 hours: NAME is expected to be silent, or to be raised.
written() {
  cat >test.yml <<YML
rule_files: [$1]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series: [{ series: backup_age_seconds, values: 0+60x3000 }]
    alert_rule_test:
      - { eval_time: 50h, alertname: $2, exp_alerts: [$3] }
YML
}
outcome() {
  local status=0
  promtool "$@" >out 2>told || status=$?
  echo "exit $status, $(grep -ohE 'SUCCESS|FAILED' out told | sort -u | xargs)"
}

written rules.yml BackupTooOld '{}'
expect "it is raised, as expected:" "exit 0, SUCCESS" "$(outcome test rules test.yml)"
written rules.yml BackupTooOld ''
expect "it is raised, silence expected:" "exit 1, FAILED" "$(outcome test rules test.yml)"
written moved.yml BackupTooOld ''
expect "silence expected, the rules are not there:" "exit 0, SUCCESS" "$(outcome test rules test.yml)"
cat told
written rules.yml BackupToOld ''
expect "silence expected, a misspelt alert:" "exit 0, SUCCESS" "$(outcome test rules test.yml)"
tail -n 2 rules.yml >>rules.yml.twice
cat rules.yml rules.yml.twice >twice.yml
expect "check rules, a rule twice:" "exit 0, FAILED" "$(outcome check rules twice.yml)"
expect "check rules --lint-fatal:" "exit 3, FAILED" "$(outcome check rules --lint-fatal twice.yml)"
