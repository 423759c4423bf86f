# shellcheck shell=sh
# Runs one PostgreSQL server for tests and ends it: when nobody has held the users lock for a while, when the file
# "keep" is removed, or when the server ends. Holds the guard lock as long as it lives.
# Arguments: directory, directory of the server programs, seconds without a user.
set -u
dir=$1 bin=$2 limit=$3
exec 8<"$dir/guard.lock"
# Whoever looks whether a guard lives holds the lock for a moment.
flock -n -x 8 || { sleep 1; flock -n -x 8; } || exit 3
"$bin/postgres" -D "$dir/data" -c listen_addresses= -c unix_socket_directories="$dir/s" -c fsync=off \
    -c synchronous_commit=off -c full_page_writes=off -c max_connections=400 -c shared_buffers=64MB \
    -c autovacuum_naptime=10min -c wal_level=minimal -c max_wal_senders=0 8<&- >"$dir/server.log" 2>&1 &
server=$!
trap 'limit=0' TERM INT HUP
exec 9<"$dir/users.lock"
idle=0
while kill -0 "$server" 2>/dev/null; do
    [ -e "$dir/keep" ] || break
    if flock -n -x 9; then
        idle=$((idle + 1))
        # The lock is kept: whoever comes now waits until this server is gone, then starts another.
        [ "$idle" -ge "$limit" ] && break
        flock -u 9
    else
        idle=0
    fi
    sleep 1 8<&- 9<&-
done
rm -f "$dir/ready"
kill -QUIT "$server" 2>/dev/null
wait "$server" 2>/dev/null
rm -rf "$dir/data" "$dir/s" "$dir/keep"
