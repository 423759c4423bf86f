#!/usr/bin/env bash
# Shows the way of a commit to three devices, on this machine, with the real programs. `--help` says more.
set -uo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=deploy/packages.sh
. "$top/deploy/packages.sh"

usage() {
    cat <<TEXT
Usage: deploy/quickstart.sh [--once] [--dir DIR] [--no-build] [--help]

Builds Shorebase and runs it on this machine, with nothing outside one work directory:
  1. installs what is missing (PostgreSQL server, git, a C compiler) through the system's package manager
  2. builds fleetd, fleetctl and fleet-agent
  3. starts fleetd with a database of its own, on a Git repository made from example-fleet-repo/
  4. starts three devices, each on a root directory of its own: two kiosks enrol by a policy, a gateway is approved
     with fleetctl
  5. commits a change and shows the devices follow it, with the seconds each step took
Then it stays up until Ctrl-C.

  --once      stop and clean up after step 5; exit 0, or with an error, its reason and the ends of the logs
  --dir DIR   the work directory, kept at the end (default: a temporary one, removed at the end)
  --no-build  use the programs that were built before
TEXT
}

once=no
build=yes
work=
while [ $# -gt 0 ]; do
    case $1 in
        --once) once=yes ;;
        --no-build) build=no ;;
        --dir)
            [ -n "${2-}" ] || die "--dir takes a directory"
            work=$2
            shift
            ;;
        --help | -h) usage && exit 0 ;;
        *) usage >&2 && die "unknown: $1" ;;
    esac
    shift
done

devices=(kiosk-1 kiosk-2 gateway-1)
# Where fleetd keeps the certificate that its own are signed with, below its data directory.
ca_file=ca/root.crt
pids=()
names=()
watcher=
keep_work=no

# start NAME COMMAND...: runs it in the background; its output goes to NAME.log.
start() {
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 </dev/null &
    pids+=("$!")
    names+=("$name")
}

# Ends what was started here, last first, by process id; kills what has not ended after 30 s.
stop_all() {
    local index pid waited
    for ((index = ${#pids[@]} - 1; index >= 0; index--)); do
        pid=${pids[index]}
        kill -TERM "$pid" 2>/dev/null || continue
        waited=0
        while kill -0 "$pid" 2>/dev/null && [ $waited -lt 300 ]; do
            sleep 0.1
            waited=$((waited + 1))
        done
        if kill -0 "$pid" 2>/dev/null; then
            say "warning: ${names[index]} (process $pid) did not end in 30 s; killing it"
            kill -KILL "$pid" 2>/dev/null
        fi
        wait "$pid" 2>/dev/null
    done
    pids=()
    names=()
}

# Runs at the end, however it comes.
finish() {
    local code=$?
    trap - EXIT INT TERM HUP
    [ -n "$work" ] || exit "$code"
    [ -z "$watcher" ] || kill "$watcher" 2>/dev/null
    stop_all
    if [ $keep_work = no ]; then
        rm -rf "$work"
    else
        say "Everything is still in $work"
    fi
    exit "$code"
}

# fail REASON: says why, with the ends of all logs.
fail() {
    local log
    printf '\nerror: %s\n' "$*" >&2
    for log in "$work"/*.log; do
        [ -s "$log" ] || continue
        printf '\n--- end of %s\n' "${log##*/}" >&2
        tail -n 15 "$log" >&2
    done
    exit 1
}

# Fails when a program that should run has ended.
check_running() {
    local index
    for index in "${!pids[@]}"; do
        kill -0 "${pids[index]}" 2>/dev/null || fail "${names[index]} ended by itself"
    done
}

# wait_until WHAT SECONDS COMMAND...: looks again and again until the command succeeds.
wait_until() {
    local what=$1 limit=$2 began=$SECONDS told=$SECONDS
    shift 2
    # What it says is shown with the other logs when the wait fails.
    until "$@" >"$work/waiting.log" 2>&1; do
        check_running
        [ $((SECONDS - began)) -lt "$limit" ] || fail "waited $limit s for: $what"
        if [ $((SECONDS - told)) -ge 10 ]; then
            told=$SECONDS
            say "  still waiting for: $what ($((SECONDS - began)) of at most $limit s)"
        fi
        sleep 0.05
    done
}

# The clock in microseconds, and the difference of two such times in seconds.
now() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }
seconds() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", (b - a) / 1000000 }'; }

# A port that nobody listens on, not below the system's own range of outgoing ports.
used_ports=" "
port=
free_port() {
    local attempt
    for attempt in {1..200}; do
        port=$((20000 + (RANDOM + attempt) % 12000))
        [[ $used_ports == *" $port "* ]] && continue
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue
        used_ports+="$port "
        return 0
    done
    fail "no free port on 127.0.0.1 between 20000 and 32000"
}

repo_git() {
    GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null git -C "$work/fleet-repo" \
        -c user.name=Quickstart -c user.email=quickstart@example.com -c commit.gpgSign=false "$@"
}

fleetctl() { timeout 20 "$bin/fleetctl" --config "$work/fleetctl.yaml" "$@"; }

# --- The steps -------------------------------------------------------------------------------------------------

install_and_build() {
    step "Preparing"
    need git cc postgres
    need_rust "$top/Cargo.toml"
    cd "$top" || fail "$top cannot be entered"
    bin=${CARGO_TARGET_DIR:-$top/target}/debug
    if [ $build = yes ]; then
        say "Building (the first time takes some minutes)"
        cargo build --locked --package fleetd --package fleetctl --package fleet-agent \
            || die "the build failed; the messages above say why"
    fi
    local program
    for program in fleetd fleetctl fleet-agent; do
        [ -x "$bin/$program" ] || die "$bin/$program is not there; run this without --no-build"
    done
}

make_work_dir() {
    if [ -n "$work" ]; then
        mkdir -p "$work" || die "$work cannot be made"
        [ -z "$(ls -A "$work")" ] || die "$work is not empty; name a directory that is empty or not there yet"
        work=$(cd "$work" && pwd)
        keep_work=yes
    else
        work=$(mktemp -d "${TMPDIR:-/tmp}/shorebase-quickstart.XXXXXX") || die "no temporary directory can be made"
    fi
    # Started by root, the database runs as another user, who must get to its own directory below this one.
    chmod 711 "$work"
}

make_repository() {
    cp -R "$top/example-fleet-repo" "$work/fleet-repo" || fail "example-fleet-repo cannot be copied"
    repo_git init --quiet --initial-branch=main || fail "git init failed"
    repo_git add --all
    repo_git commit --quiet -m "Start with the example" || fail "git commit failed"
}

write_service_config() {
    free_port && agent_port=$port
    free_port && user_port=$port
    free_port && metrics_port=$port
    cat >"$work/fleetd.yaml" <<YAML
dataDir: $work/fleetd
userApi:
  address: 127.0.0.1:$user_port
  baseUrl: https://127.0.0.1:$user_port
  names: [127.0.0.1, localhost]
agentApi:
  address: 127.0.0.1:$agent_port
  baseUrl: https://127.0.0.1:$agent_port
  names: [127.0.0.1, localhost]
metrics:
  address: 127.0.0.1:$metrics_port
git:
  pollInterval: 2s
sources:
  - name: example
    url: file://$work/fleet-repo
    revision: main
YAML
    "$bin/fleetd" check-config --config "$work/fleetd.yaml" >"$work/check-config.log" 2>&1 \
        || fail "fleetd does not accept $work/fleetd.yaml"
}

make_token() {
    (umask 077 && "$bin/fleetctl" token --data-dir "$work/fleetd" --role admin --subject quickstart >"$work/token.new") \
        && mv "$work/token.new" "$work/token"
}

write_client_config() {
    cat >"$work/fleetctl.yaml" <<YAML
server: https://127.0.0.1:$user_port
certificate-authority: $work/fleetd/$ca_file
token-file: $work/token
YAML
}

start_device() {
    local name=$1 root=$work/devices/$1
    mkdir -p "$root/etc/fleet-agent"
    printf '%s\n' "$name" >"$root/etc/hostname"
    (umask 077 && cp "$work/agent-config.yaml" "$root/etc/fleet-agent/config.yaml")
    start "$name" "$bin/fleet-agent" --root "$root"
}

# The name of a device is the fingerprint of its key: 52 characters; the agent says it.
device_id() { grep -aohE '\b[0-9a-v]{52}\b' "$work/$1.log" "$work/devices/$1"/etc/issue.d/* 2>/dev/null | head -n 1; }
has_id() { [ -n "$(device_id "$1")" ]; }
is_requested() { fleetctl get enrollmentrequests | grep -qF "$(device_id "$1" | cut -c 1-12)"; }
commit_is_applied() { fleetctl get sources -o json | grep -qE "\"appliedCommit\": *\"$1\""; }
device_file() {
    case $1 in
        kiosk-*) printf '%s' "$work/devices/$1/etc/kiosk/app.conf" ;;
        *) printf '%s' "$work/devices/$1/etc/gateway/gateway.conf" ;;
    esac
}

start_service() {
    step "Starting fleetd"
    start fleetd "$bin/fleetd" serve --config "$work/fleetd.yaml"
    wait_until "fleetd to write its certificate authority ($ca_file)" 120 test -s "$work/fleetd/$ca_file"
    wait_until "the key that fleetd signs tokens with" 60 make_token
    write_client_config
    wait_until "the users' interface of fleetd on port $user_port" 60 fleetctl get devices
    wait_until "the first commit to be applied" 60 commit_is_applied "$(repo_git rev-parse HEAD)"
    say "fleetd is up: users on https://127.0.0.1:$user_port, devices on https://127.0.0.1:$agent_port"
}

enrol_devices() {
    local name
    step "Enrolling three devices"
    (umask 077 && fleetctl enrollment-config >"$work/agent-config.yaml" 2>"$work/enrollment-config.log") \
        || fail "fleetctl enrollment-config failed"
    for name in "${devices[@]}"; do start_device "$name"; done
    wait_until "gateway-1 to make its key" 60 has_id gateway-1
    wait_until "the enrolment request of gateway-1" 60 is_requested gateway-1
    say "gateway-1 waits for a person: fleetctl approve $(device_id gateway-1) -l role=gateway -l site=berlin"
    fleetctl approve "$(device_id gateway-1)" -l role=gateway -l site=berlin >"$work/approve.log" 2>&1 \
        || fail "fleetctl approve failed"
    for name in "${devices[@]}"; do
        wait_until "the files of $name ($(device_file "$name"))" 90 test -s "$(device_file "$name")"
        say "$name has its files"
    done
    fleetctl get devices || fail "fleetctl get devices failed"
}

follow_a_change() {
    local name commit began applied text seen=() left index
    step "Committing a change for all devices"
    text="Changed by the quickstart at $(date -u +%H:%M:%S)"
    for name in kiosk gateway; do printf '%s\n' "$text" >"$work/fleet-repo/config/$name/etc/motd"; done
    repo_git add --all
    repo_git commit --quiet -m "Greet people who log in" || fail "git commit failed"
    began=$(now)
    commit=$(repo_git rev-parse HEAD)
    say "commit ${commit:0:12}: config/kiosk/etc/motd and config/gateway/etc/motd"
    left=("${devices[@]}")
    while [ ${#left[@]} -gt 0 ]; do
        for index in "${!left[@]}"; do
            name=${left[index]}
            if grep -qsxF "$text" "$work/devices/$name/etc/motd"; then
                seen+=("$name $(now)")
                unset "left[index]"
            fi
        done
        left=("${left[@]}")
        check_running
        [ $(($(now) - began)) -lt 60000000 ] || fail "60 s after the commit, these have no new /etc/motd: ${left[*]}"
        sleep 0.01
    done
    wait_until "fleetctl get sources to show the commit as applied" 60 commit_is_applied "$commit"
    applied=$(fleetctl get sources -o json | grep -oE '"appliedAt": *"[^"]+"' | head -n 1 | cut -d '"' -f 4)
    say "  $(seconds "$began" "$(date -d "$applied" +%s%6N)") s  applied in the database (the service's own time)"
    for name in "${seen[@]}"; do
        say "  $(seconds "$began" "${name#* }") s  ${name% *} has the new /etc/motd"
    done
    fleetctl get devices || fail "fleetctl get devices failed"
}

stay_up() {
    step "Up until Ctrl-C"
    trap 'say ""; say "Stopping"; exit 0' INT
    cat <<TEXT
Devices are directories here:   $work/devices
Change something:               cd $work/fleet-repo   (edit, then git commit -a -m 'why')
Look at it:
  alias fleetctl='$bin/fleetctl --config $work/fleetctl.yaml'
  fleetctl get devices
  fleetctl get sources
  fleetctl get enrollmentrequests
TEXT
    while :; do
        check_running
        sleep 1
    done
}

install_and_build
make_work_dir
trap finish EXIT
trap 'say ""; say "Stopping"; exit 130' INT
trap 'exit 143' TERM HUP
make_repository
write_service_config
start_service
enrol_devices
follow_a_change
if [ $once = no ]; then
    stay_up
fi
step "Stopping"
stop_all
say "Done: a commit reached three devices."
