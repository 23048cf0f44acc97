#!/bin/sh
# The official image's first start: a cluster for POSTGRES_USER with the database POSTGRES_DB, listening everywhere.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  user="${POSTGRES_USER:-postgres}"
  [ "${POSTGRES_HOST_AUTH_METHOD:-}" = trust ] || { echo "POSTGRES_HOST_AUTH_METHOD: this image knows only trust" >&2; exit 1; }
  initdb -D "$PGDATA" -U "$user" -E UTF8 -A trust
  echo "host all all all trust" >>"$PGDATA/pg_hba.conf"
  pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=" start
  [ "${POSTGRES_DB:-$user}" = postgres ] || createdb -U "$user" "${POSTGRES_DB:-$user}"
  pg_ctl -D "$PGDATA" -w -m fast stop
fi
exec "$@" -c "listen_addresses=*"
