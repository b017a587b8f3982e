#!/bin/sh
# Prepares an empty data folder as the official image does, then becomes the given command.
set -eu

# From `NAME` or the file that `NAME_FILE` names.
from_file() {
  eval "value=\${$1:-} file=\${$1_FILE:-}"
  if [ -n "$value" ] && [ -n "$file" ]; then
    echo "error: both $1 and $1_FILE are set (but are exclusive)" >&2
    exit 1
  fi
  if [ -n "$file" ]; then value=$(cat "$file"); fi
  export "$1=${value:-$2}"
}

# psql on the server that only this script can reach.
process_sql() {
  psql -X -w -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" --dbname "${database:-$POSTGRES_DB}" "$@"
}

# A cluster in an empty $PGDATA. One was made when the image was built: its copy is there at once, and does wherever
# initdb is told nothing, by arguments or by what it reads in the environment.
make_cluster() {
  is_copy=
  told="$POSTGRES_INITDB_ARGS$(env | grep -E '^(LC_[A-Z]+|LANGUAGE|TZ)=' || :)"
  if [ -z "$told" ] && [ "${LANG:-}" = C.UTF-8 ] && [ -r "$READY_MADE/PG_VERSION" ]; then
    is_copy=yes
    cp -R "$READY_MADE" "$PGDATA"
    return
  fi
  password=$(mktemp)
  printf '%s\n' "$POSTGRES_PASSWORD" > "$password"
  if [ -n "$POSTGRES_PASSWORD" ]; then set -- --pwfile="$password"; else set --; fi
  eval "initdb -U \"\$POSTGRES_USER\" --auth=trust --no-sync \"\$@\" $POSTGRES_INITDB_ARGS"
  rm -f "$password"
}

# Gives the superuser of a copy its name, which nobody can do to himself, and its password.
rename_superuser() {
  if [ "$POSTGRES_USER" != postgres ]; then
    psql -X -q -v ON_ERROR_STOP=1 -U postgres -d postgres --set user="$POSTGRES_USER" <<'SQL'
CREATE ROLE "xtask renames" SUPERUSER LOGIN;
\connect - "xtask renames"
ALTER ROLE postgres RENAME TO :"user";
\connect - :"user"
DROP ROLE "xtask renames";
SQL
  fi
  if [ -n "$POSTGRES_PASSWORD" ]; then
    database=postgres process_sql -q <<'SQL'
\set password `printenv POSTGRES_PASSWORD`
ALTER ROLE CURRENT_USER PASSWORD :'password';
SQL
  fi
}

init() {
  if [ -z "$POSTGRES_PASSWORD" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
    echo 'Error: Database is uninitialized and superuser password is not specified.
       You must specify POSTGRES_PASSWORD to a non-empty value for the
       superuser. For example, "-e POSTGRES_PASSWORD=password" on "docker run".' >&2
    exit 1
  fi

  # A killed preparation must not look like a finished one: it happens in a folder inside, because the place
  # itself may be a mount point, and its content moves out at the end, PG_VERSION last. What a killed one has
  # left is thrown away. Nothing waits for the disk: only a machine that goes down could lose what was made.
  data=$PGDATA
  export PGDATA="$data/.new"
  if [ -d "$PGDATA" ]; then rm -rf "$PGDATA" "${data:?}"/*; fi
  make_cluster
  printf '\nhost all all all %s\n' "${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >> "$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"

  # On the socket only, so that nobody takes it for the server to come.
  pg_ctl -w -o "-c listen_addresses='' -c fsync=off -p ${PGPORT:-5432}" start
  if [ -n "$is_copy" ]; then rename_superuser; fi
  if [ "$POSTGRES_DB" != postgres ]; then
    printf 'CREATE DATABASE :"db";\n' | database=postgres process_sql --set db="$POSTGRES_DB"
  fi
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
      *.sh) echo "running $file"; if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
      *.sql) echo "running $file"; process_sql -f "$file" ;;
      *.sql.gz) echo "running $file"; gunzip -c "$file" | process_sql ;;
      */\*) ;;
      *) echo "ignoring $file" ;;
    esac
  done
  pg_ctl -m fast -w stop

  for file in "$PGDATA"/*; do
    if [ "${file##*/}" != PG_VERSION ]; then mv "$file" "$data/"; fi
  done
  mv "$PGDATA/PG_VERSION" "$data/"
  rmdir "$PGDATA"
  export PGDATA="$data"
}

# `docker run IMAGE -c fsync=off` means the server.
case ${1:-} in -*) set -- postgres "$@" ;; esac

if [ "${1:-}" = postgres ]; then
  if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chmod 0700 "$PGDATA"
    find "$PGDATA" /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
  fi
  mkdir -p "$PGDATA"
  chmod 0700 "$PGDATA" 2>/dev/null || :
  from_file POSTGRES_PASSWORD ''
  from_file POSTGRES_USER postgres
  from_file POSTGRES_DB "$POSTGRES_USER"
  from_file POSTGRES_INITDB_ARGS ''
  if [ ! -s "$PGDATA/PG_VERSION" ]; then init; fi
fi

exec "$@"
