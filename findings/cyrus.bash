# shellcheck shell=bash disable=SC2154
# A private Cyrus 3.6.1 for the findings that need one: Debian's packages, unpacked into the folder $work of the script that
# sources this, running as the user nobody on a loopback port of its own. Every name logs in with any password; `cyrus` is the
# administrator. To be sourced; defines cyrus_install, cyrus_start, cyrus_run, cyrus_stop, and $port.

cyrus_version=3.6.1-4+deb12u5

cyrus_install() {
  chmod 755 "$work"
  mkdir "$work/debs"
  cd "$work/debs" || return
  apt-get -q -o APT::Sandbox::User=root download cyrus-common=$cyrus_version cyrus-imapd=$cyrus_version >/dev/null
  for deb in ./*.deb; do dpkg -x "$deb" "$work/root"; done
  LD_LIBRARY_PATH=$(echo "$work"/root/usr/lib/*-linux-gnu)
  LD_LIBRARY_PATH+=:${LD_LIBRARY_PATH/root\/usr/root}
  export LD_LIBRARY_PATH
  cyrus_bin=$work/root/usr/lib/cyrus/bin
  # Where Cyrus's own dependencies are not installed, they are unpacked beside it.
  local linked libraries
  linked=$(ldd "$cyrus_bin/master" "$cyrus_bin/imapd" "$cyrus_bin/reconstruct")
  if [[ $linked == *"not found"* ]]; then
    mapfile -t libraries < <(apt-cache depends --recurse --no-pre-depends --no-recommends --no-suggests --no-conflicts --no-breaks \
      --no-replaces --no-enhances cyrus-common | grep -E '^lib[a-z0-9.+-]+$' | grep -vE '^libc6|perl' | sort -u)
    apt-get -q -o APT::Sandbox::User=root download "${libraries[@]}" >/dev/null
    for deb in ./*.deb; do dpkg -x "$deb" "$work/root"; done
  fi
  cd "$work" || return
  echo "Cyrus IMAP $cyrus_version"
}

# cyrus_start [OPTION=VALUE...]: options of imapd.conf beside those below.
cyrus_start() {
  local cyrus=$work/cyrus option
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  mkdir -p "$cyrus"/{lib,spool,sieve,run}
  cat >"$cyrus/imapd.conf" <<END
configdirectory: $cyrus/lib
partition-default: $cyrus/spool
defaultpartition: default
sievedir: $cyrus/sieve
proc_path: $cyrus/run/proc
mboxname_lockpath: $cyrus/run/lock
cyrus_user: nobody
servername: imap.example.org
admins: cyrus
allowplaintext: yes
sasl_mech_list: PLAIN
sasl_pwcheck_method: alwaystrue
unixhierarchysep: yes
END
  for option in "$@"; do echo "${option%%=*}: ${option#*=}" >>"$cyrus/imapd.conf"; done
  cat >"$cyrus/cyrus.conf" <<END
START {
  recover cmd="$cyrus_bin/ctl_cyrusdb -r -C $cyrus/imapd.conf"
}
SERVICES {
  imap cmd="$cyrus_bin/imapd -C $cyrus/imapd.conf" listen="127.0.0.1:$port" prefork=0
}
EVENTS {
}
END
  chown -R nobody: "$cyrus"
  # Not daemonized, so that its process number is known.
  "$cyrus_bin/master" -C "$cyrus/imapd.conf" -M "$cyrus/cyrus.conf" -p "$cyrus/run/master.pid" >"$cyrus/run/log" 2>&1 &
  cyrus_master=$!
  for _ in {1..200}; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return; fi
    sleep 0.1
  done
  echo "Cyrus did not start: $(<"$cyrus/run/log")" >&2
  return 1
}

# Runs one of Cyrus's programs.
cyrus_run() {
  local program=$1
  shift
  "$cyrus_bin/$program" -C "$work/cyrus/imapd.conf" "$@"
}

# For the trap: stops what runs, if anything does.
cyrus_stop() {
  [[ -n ${cyrus_master:-} ]] || return 0
  kill "$cyrus_master" 2>/dev/null || true
  wait "$cyrus_master" 2>/dev/null || true
  cyrus_master=
}
