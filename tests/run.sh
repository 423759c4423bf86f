#!/usr/bin/env bash
# Runs every check of this repository. `tests/run.sh --help` says how to run a part.
set -uo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top" || exit 1
# shellcheck source=deploy/packages.sh
. "$top/deploy/packages.sh"

all_phases=(fmt clippy unit doctest rustdoc schemas sqlx shell fuzz)
quick_phases=(fmt clippy unit)

usage() {
    cat <<TEXT
Usage: tests/run.sh [--only PHASE]... [--quick] [--no-install] [-- TEST FILTER...]

Installs what the tests need (through the system's package manager, with sudo when not root) and runs, in this order:
  fmt      cargo fmt --check
  clippy   lints of the whole workspace, warnings are errors
  unit     all tests, with cargo-nextest when it is installed, else with cargo test
  doctest  examples in the documentation
  rustdoc  the documentation builds without warnings
  schemas  schemas/ is what the types say (cargo xtask schemas writes it)
  sqlx     .sqlx/ is what the queries need (cargo xtask sqlx writes it)
  shell    shellcheck of all scripts
  fuzz     libFuzzer on everything that reads other people's files, 10 s each (FUZZ_SECONDS=300 or tests/fuzz.sh: longer)

  --only PHASE   only this phase; may be given several times
  --quick        fmt, clippy and unit
  --no-install   fail instead of installing packages
  --help         this text

Words after -- choose tests of the phase unit by a part of their names: tests/run.sh --only unit -- cluster

The last line is "N passed, N failed": the tests, and each other phase as one. The exit code is 0 when none failed.
Random tests print their seed. In the environment: SHOREBASE_SEED=N gives it again, SHOREBASE_KILLS=10000 kills the service
more often than 200 times, SHOREBASE_HISTORIES=50 and SHOREBASE_STEPS=100 make more and longer histories. For these long
runs use cargo test, which ends no test that takes hours. PROPTEST_RNG_SEED=N gives property tests again. .ci/run sets seeds.

With CI=1 the lock file must be current and incremental compilation is off.
TEXT
}

phases=()
filter=()
install=yes
while [ $# -gt 0 ]; do
    case $1 in
        --only)
            [[ " ${all_phases[*]} " == *" ${2-} "* && -n ${2-} ]] || die "--only takes one of: ${all_phases[*]}"
            phases+=("$2")
            shift
            ;;
        --quick) phases+=("${quick_phases[@]}") ;;
        --no-install) install=no ;;
        --help | -h) usage && exit 0 ;;
        --)
            shift
            filter=("$@")
            break
            ;;
        *) usage >&2 && die "unknown: $1" ;;
    esac
    shift
done
[ ${#phases[@]} -gt 0 ] || phases=("${all_phases[@]}")

if [ $install = no ]; then
    need() {
        local thing
        for thing in "$@"; do
            case $thing in
                postgres) have_postgres_server ;;
                nginx) have_nginx ;;
                fcgiwrap) have_fcgiwrap ;;
                sshd) have_sshd ;;
                *) have "$thing" ;;
            esac || die "missing: $thing; package: $(package_for "$thing")"
        done
    }
fi
need git cc c++ curl openssl flock postgres nginx fcgiwrap sshd gpg shellcheck
need_rust Cargo.toml
for part in fmt clippy; do
    cargo "$part" --version >/dev/null 2>&1 || die "cargo $part is not installed; run: rustup component add rustfmt clippy"
done

scratch=$(mktemp -d "${TMPDIR:-/tmp}/shorebase-run.XXXXXX") || exit 1
# One database server for all test processes. A path for a socket must be short.
SHOREBASE_TEST_PG_DIR=$(mktemp -d /tmp/shorebase-pg.XXXXXX) || exit 1
export SHOREBASE_TEST_PG_DIR

# The server's guard stops it when the file is gone; it would stop by itself a minute after the last test.
clean_up() {
    local waited=0
    rm -f "$SHOREBASE_TEST_PG_DIR/keep"
    while [ -e "$SHOREBASE_TEST_PG_DIR/data" ] && [ $waited -lt 100 ]; do
        sleep 0.1
        waited=$((waited + 1))
    done
    rm -rf "$SHOREBASE_TEST_PG_DIR" "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

locked=()
if [ -n "${CI-}" ]; then
    locked=(--locked)
    export CARGO_INCREMENTAL=0 CARGO_TERM_COLOR=never
    export CARGO_NET_RETRY=5
fi

phase_fmt() { cargo fmt --all --check; }
phase_clippy() { cargo clippy "${locked[@]}" --workspace --all-targets -- -D warnings; }
phase_unit() {
    if cargo nextest --version >/dev/null 2>&1; then
        local profile=default
        [ -z "${CI-}" ] || profile=ci
        cargo nextest run "${locked[@]}" --workspace --no-fail-fast --profile "$profile" "${filter[@]}"
    else
        cargo test "${locked[@]}" --workspace --lib --bins --tests --no-fail-fast -- "${filter[@]}"
    fi
}
phase_doctest() { cargo test "${locked[@]}" --workspace --doc --no-fail-fast; }
phase_rustdoc() { RUSTDOCFLAGS="-D warnings" cargo doc "${locked[@]}" --workspace --no-deps; }
phase_schemas() { cargo xtask schemas --check; }
phase_sqlx() { cargo xtask sqlx --check; }
phase_shell() {
    have shellcheck || die "shellcheck is missing; run this without --no-install, or install the package shellcheck"
    local scripts
    mapfile -t scripts < <(git -c safe.directory='*' ls-files --cached --others --exclude-standard -- '*.sh' .ci/run)
    shellcheck -x "${scripts[@]}"
}
phase_fuzz() { tests/fuzz.sh --seconds "${FUZZ_SECONDS:-10}" --seed "${FUZZ_SEED:-1}"; }

# count FILE: "passed failed" of the test runners whose output it is.
count() {
    awk '
        { gsub(/\033\[[0-9;]*m/, "") }
        # cargo test: "test result: ok. 3 passed; 1 failed; …"
        /^test result: / { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i - 1); if ($i ~ /^failed/) f += $(i - 1) } }
        # nextest: "Summary [ 1.2s] 4 tests run: 3 passed (1 slow), 1 failed, 1 timed out, 0 skipped"
        / Summary \[/ {
            line = $0; sub(/.*tests? run: /, "", line); n = split(line, part, /, /)
            for (i = 1; i <= n; i++) {
                split(part[i], word, " ")
                if (part[i] ~ /^[0-9]+ passed/) p += word[1]
                else if (part[i] ~ /^[0-9]+ (failed|timed out|exec failed)/) f += word[1]
            }
        }
        END { print p + 0, f + 0 }' "$1"
}

passed=0
failed=0
failed_phases=()
for phase in "${phases[@]}"; do
    step "$phase"
    began=$SECONDS
    log="$scratch/$phase.log"
    "phase_$phase" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    read -r tests_passed tests_failed <<<"$(case $phase in unit | doctest) count "$log" ;; *) echo 0 0 ;; esac)"
    # A phase without tests, or one that failed before or besides its tests, counts as one.
    if [ "$status" -ne 0 ]; then
        failed_phases+=("$phase")
        [ "$tests_failed" -gt 0 ] || tests_failed=1
    elif [ "$tests_passed" -eq 0 ]; then
        tests_passed=1
    fi
    passed=$((passed + tests_passed))
    failed=$((failed + tests_failed))
    say "-- $phase: $([ "$status" -eq 0 ] && echo ok || echo FAILED) in $((SECONDS - began)) s"
done

say ""
[ ${#failed_phases[@]} -eq 0 ] || say "Failed: ${failed_phases[*]}. To run one again: tests/run.sh --only ${failed_phases[0]}"
say "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
