#!/bin/sh
# Brings Compose v2 to a Debian that has docker-compose 1.29 only: the plugin out of the next release's package.
# Nothing else of that release is installed. As root.
set -eu
plugin=/usr/local/lib/docker/cli-plugins/docker-compose
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -v '^#' |
  grep -oE 'https?://[^ ]+/debian/?( |$)' | head -1 | tr -d ' ')
printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: %s\n' "$mirror" \
  /usr/share/keyrings/debian-archive-keyring.gpg >/etc/apt/sources.list.d/trixie.sources
printf 'Package: *\nPin: release n=trixie\nPin-Priority: 50\n' >/etc/apt/preferences.d/trixie
apt-get update -qq
folder=$(mktemp -d)
cd "$folder"
apt-get download -qq docker-compose/trixie
dpkg-deb -x docker-compose_*.deb .
install -D -m 755 usr/libexec/docker/cli-plugins/docker-compose "$plugin"
rm -rf "$folder"
