# shellcheck shell=bash
# Functions for scripts that install what they need. Sourced by quickstart.sh and tests/run.sh, not run by itself.

say() { printf '%s\n' "$*"; }
step() { printf '\n== %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Debian's server programs are outside of PATH.
have_postgres_server() {
    command -v initdb >/dev/null 2>&1 && return 0
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || compgen -G '/usr/pgsql-*/bin/initdb' >/dev/null
}
have() { command -v "$1" >/dev/null 2>&1; }
have_fcgiwrap() { have fcgiwrap || [ -x /usr/sbin/fcgiwrap ]; }
have_nginx() { have nginx || [ -x /usr/sbin/nginx ]; }
have_sshd() { have ssh && { have sshd || [ -x /usr/sbin/sshd ]; }; }

package_manager() {
    local name
    for name in apt-get dnf pacman zypper apk; do
        have "$name" && printf '%s' "$name" && return 0
    done
    return 1
}

# package_for THING: its package with this machine's package manager.
package_for() {
    case "$(package_manager):$1" in
        apt-get:cc) printf build-essential ;;
        apk:cc) printf build-base ;;
        *:cc) printf 'gcc make' ;;
        apt-get:c++ | apk:c++) printf 'g++' ;;
        pacman:c++) printf gcc ;;
        *:c++) printf gcc-c++ ;;
        apt-get:postgres) printf 'postgresql postgresql-client' ;;
        pacman:postgres) printf postgresql ;;
        apk:postgres) printf 'postgresql16 postgresql16-client' ;;
        *:postgres) printf 'postgresql-server postgresql' ;;
        apt-get:nginx) printf nginx-light ;;
        apt-get:sshd | dnf:sshd) printf 'openssh-server openssh-client%s' "$([ "$(package_manager)" = apt-get ] || printf s)" ;;
        *:sshd) printf openssh ;;
        dnf:shellcheck | zypper:shellcheck) printf ShellCheck ;;
        *:flock) printf util-linux ;;
        apt-get:gpg) printf 'gpg gpg-agent' ;;
        dnf:gpg) printf gnupg2 ;;
        zypper:gpg) printf gpg2 ;;
        *:gpg) printf gnupg ;;
        *) printf '%s' "$1" ;;
    esac
}

# need THING...: of git cc c++ curl openssl flock postgres nginx fcgiwrap sshd gpg shellcheck. Installs what is missing, and says so.
need() {
    local thing missing=() packages=() sudo=()
    for thing in "$@"; do
        case $thing in
            postgres) have_postgres_server || missing+=("$thing") ;;
            nginx) have_nginx || missing+=("$thing") ;;
            fcgiwrap) have_fcgiwrap || missing+=("$thing") ;;
            sshd) have_sshd || missing+=("$thing") ;;
            *) have "$thing" || missing+=("$thing") ;;
        esac
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    package_manager >/dev/null || die "missing: ${missing[*]}; no known package manager here, install them by hand"
    for thing in "${missing[@]}"; do
        read -ra words <<<"$(package_for "$thing")"
        packages+=("${words[@]}")
    done
    if [ "$(id -u)" != 0 ]; then
        have sudo || die "missing: ${missing[*]}; as root, install the packages: ${packages[*]}"
        sudo=(sudo)
    fi
    case " ${missing[*]} " in
        *" postgres "*) say "Only PostgreSQL's programs are used; a server that the package sets up by itself is left alone" ;;
    esac
    say "Installing ${packages[*]} with $(package_manager) (missing here: ${missing[*]})"
    local failed="the packages could not be installed; install them by hand: ${packages[*]}"
    case $(package_manager) in
        apt-get)
            "${sudo[@]}" apt-get update -qq || say "warning: the package lists could not be brought up to date"
            "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${packages[@]}" \
                >/dev/null || die "$failed"
            ;;
        dnf) "${sudo[@]}" dnf install -q -y "${packages[@]}" || die "$failed" ;;
        pacman) "${sudo[@]}" pacman -S --noconfirm --needed "${packages[@]}" || die "$failed" ;;
        zypper) "${sudo[@]}" zypper --quiet --non-interactive install "${packages[@]}" || die "$failed" ;;
        apk) "${sudo[@]}" apk add --quiet "${packages[@]}" || die "$failed" ;;
    esac
}

# need_rust CARGO_TOML: a Rust that is new enough for this workspace. Installing one is left to the user.
need_rust() {
    local wanted found
    wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$1")
    have cargo || [ ! -x "$HOME/.cargo/bin/cargo" ] || PATH="$HOME/.cargo/bin:$PATH"
    have cargo || die "Rust is not installed. Install it with:
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y && . \"\$HOME/.cargo/env\"
Then run this again."
    found=$(rustc --version | sed -n 's/^rustc \([0-9.]*\).*/\1/p')
    if [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
        die "Rust $found is installed, $wanted or newer is needed. Bring it up to date with:
    rustup update stable && rustup default stable
Then run this again."
    fi
}
