#!/bin/sh
# What the tests need from Debian or Ubuntu besides iproute2. Installs what is missing, as root only.
set -eu
# npm puts node_modules/.bin first, where there is another program called nft.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

missing=
need() { command -v "$1" >/dev/null || missing="$missing $2"; }
need ip iproute2
need nft nftables
need iperf3 iperf3
need curl curl
need tcpdump tcpdump
need ping iputils-ping
need mptcpize mptcpize
need setpriv util-linux
need openssl openssl
need python3 python3
need apache2 apache2-bin
need systemd-analyze systemd
need ssh openssh-client
need sshd openssh-server
need chromium-headless-shell chromium-headless-shell

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "tests: missing:$missing (Debian: sudo apt-get install$missing)" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
echo "tests: installing$missing" >&2
# What comes with a service (the SSH server) does not become one of this host: it is not started, nor enabled.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod 755 $policy
fi
# shellcheck disable=SC2086  # a list of words
install() { apt-get install -y -q --no-install-recommends $missing >/dev/null; }
install 2>/dev/null || { apt-get update -q >/dev/null && install; }
case $missing in *openssh-server*)
  for unit in ssh.service ssh.socket; do systemctl disable $unit >/dev/null 2>&1 || true; done ;;
esac
