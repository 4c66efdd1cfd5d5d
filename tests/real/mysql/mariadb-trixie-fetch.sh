#!/bin/bash
# Fetch the MariaDB server of Debian 13 (11.8) into the cache; print its bin directory.
set -euo pipefail
# the last one is for plugins
exec "$(dirname "$0")/unpack-debian.sh" mariadb-11.8 trixie "mariadb-server-core mariadb-client-core mariadb-backup" "mariadb-server"
