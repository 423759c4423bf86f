#!/usr/bin/env bash
# Lets libFuzzer loose on everything that reads other people's repositories. `tests/fuzz.sh --help` says how.
set -uo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$top" || exit 1
# shellcheck source=deploy/packages.sh
. "$top/deploy/packages.sh"

mapfile -t all_targets < <(cd crates/fleet-fuzz/seeds && printf '%s\n' *)

usage() {
    cat <<TEXT
Usage: tests/fuzz.sh [--seconds N] [--seed N] [--target T]... [--build-only | --no-build]

Builds crates/fleet-fuzz with coverage counters into target/fuzz (stable Rust, no sanitizer) and runs each target:
  ${all_targets[*]}

  --seconds N   how long each target runs (default: 60)
  --seed N      begin from the same chance each time, and from the seeds alone: a gate that does not fail by luck
  --target T    only this target; may be given several times
  --build-only  build, run nothing
  --no-build    run what was built before

New inputs that reach new code are kept in target/fuzz/corpus/<target>, and the next run starts from them and from the
seeds in crates/fleet-fuzz/seeds/<target>. The exit code is 0 when no target failed; else the input of each failure
is named: once its cause is mended, it becomes a seed. To run one input again:
  FLEET_FUZZ_TARGET=T target/fuzz/<host>/release/fleet-fuzz INPUT
TEXT
}

seconds=60
seed=
targets=()
run=yes
build=yes
while [ $# -gt 0 ]; do
    case $1 in
        --seconds)
            [[ ${2-} =~ ^[1-9][0-9]*$ ]] || die "--seconds takes a number"
            seconds=$2
            shift
            ;;
        --seed)
            [[ ${2-} =~ ^[1-9][0-9]*$ ]] || die "--seed takes a number"
            seed=$2
            shift
            ;;
        --target)
            [[ -n ${2-} && " ${all_targets[*]} " == *" $2 "* ]] || die "--target takes one of: ${all_targets[*]}"
            targets+=("$2")
            shift
            ;;
        --build-only) run=no ;;
        --no-build) build=no ;;
        --help | -h) usage && exit 0 ;;
        *) usage >&2 && die "unknown: $1" ;;
    esac
    shift
done
[ ${#targets[@]} -gt 0 ] || targets=("${all_targets[@]}")

need git cc c++
need_rust Cargo.toml
host=$(rustc -vV | sed -n 's/^host: //p')
out=${CARGO_TARGET_DIR:-$top/target}/fuzz
build_it() {
    local began=$SECONDS flags
    step "Building (the first time takes some minutes)"
    # The flags of cargo-fuzz without a sanitizer. With --target they do not reach build scripts and macros.
    flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
    flags+=" -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
    flags+=" -Cllvm-args=-simplifycfg-branch-fold-threshold=0 --cfg fuzzing"
    CARGO_TARGET_DIR=$out RUSTFLAGS=$flags CARGO_INCREMENTAL=0 CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true \
        CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true CARGO_PROFILE_RELEASE_DEBUG=line-tables-only \
        CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_RELEASE_OPT_LEVEL=2 \
        cargo build ${CI:+--locked} --release --target "$host" --package fleet-fuzz --features libfuzzer \
        || die "the build failed; the messages above say why"
    say "built in $((SECONDS - began)) s"
}
[ $build = no ] || build_it
program=$out/$host/release/fleet-fuzz
[ -x "$program" ] || die "$program is not there; run this without --no-build"
[ $run = yes ] || exit 0

failed=()
for target in "${targets[@]}"; do
    corpus=$out/corpus/$target
    found=$out/found/$target
    [ -z "$seed" ] || corpus=$out/seeded/$target
    [ -z "$seed" ] || rm -rf "$corpus"
    mkdir -p "$corpus" "$found"
    longest=4096
    [ "$target" != manifest ] || longest=16384
    log=$out/$target.log
    # A stack of the usual size for threads: too deep recursion ends the run, and the input is kept.
    (
        ulimit -s 2048
        FLEET_FUZZ_TARGET=$target exec "$program" "$corpus" "crates/fleet-fuzz/seeds/$target" \
            ${seed:+-seed="$seed"} -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 -malloc_limit_mb=1024 -max_len=$longest \
            -artifact_prefix="$found/" -print_final_stats=1 -verbosity=1
    ) >"$log" 2>&1 </dev/null
    status=$?
    number() { sed -n "s/^stat::$1: *//p" "$log" | tail -n 1; }
    coverage=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1 | cut -d ' ' -f 2)
    first=$(grep -oE 'INITED +cov: [0-9]+' "$log" | head -n 1 | grep -oE '[0-9]+$')
    say "$(printf '%-9s %9s executions, %5s new units, %5s places reached (%s with the seeds)' "$target" \
        "$(number number_of_executed_units)" "$(number new_units_added)" "${coverage:-0}" "${first:-0}")"
    if [ $status -ne 0 ]; then
        input=$(grep -oE 'Test unit written to .*' "$log" | tail -n 1 | cut -d ' ' -f 5-)
        say "FAILED: $target with the input ${input:-unknown, see $log}"
        grep -m 3 -hE 'panicked at|SUMMARY|ERROR: libFuzzer|overflowed its stack' -A 2 "$log"
        failed+=("$target")
    elif [ "${coverage:-0}" -lt 100 ]; then
        say "FAILED: $target reaches next to nothing: the coverage counters do not count, or its seeds are refused at once"
        failed+=("$target")
    fi
done
[ ${#failed[@]} -eq 0 ] || die "failed: ${failed[*]}"
