#!/bin/sh
# Install modelhost-exporter, upgrade it, or remove it:
#   sh install.sh [--from WHEEL] [--service] [--no-service] [--open] [--uninstall] [--help]
# As root it is installed for the machine in /opt/modelhost-exporter, otherwise for you in ~/.local/share. The environment
# is its own; Python 3.11 or later is used if there is one, otherwise uv fetches one into the same folder.
set -eu

name=modelhost-exporter
source=$name
service=ask
open=no
action=install

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

usage() {
    cat <<EOF
usage: sh install.sh [options]
  --from WHEEL   install this file, or this requirement such as $name==0.1.0, instead of the newest release
  --service      start it now and at every boot
  --no-service   do not ask whether to
  --open         open the live page in the browser at the end
  --uninstall    remove the service, the program and its folder
MODELHOST_HOME and MODELHOST_BIN replace the folders of the program and of its command.
EOF
}

while [ $# -gt 0 ]; do
    case $1 in
    --from)
        [ $# -gt 1 ] || fail "--from needs a wheel or a requirement"
        source=$2
        shift
        ;;
    --service) service=yes ;;
    --no-service) service=no ;;
    --open) open=yes ;;
    --uninstall) action=uninstall ;;
    -h | --help)
        usage
        exit 0
        ;;
    *) fail "unknown option $1: see --help" ;;
    esac
    shift
done

if [ "$(id -u)" -eq 0 ]; then
    home=${MODELHOST_HOME:-/opt/$name}
    bin=${MODELHOST_BIN:-/usr/local/bin}
    user=
    umask 022 # the service's own user reads the program
else
    [ -n "${HOME:-}" ] || fail "HOME is not set"
    home=${MODELHOST_HOME:-${XDG_DATA_HOME:-$HOME/.local/share}/$name}
    bin=${MODELHOST_BIN:-$HOME/.local/bin}
    user=--user
fi
case $home in
/*/*) ;;
*) fail "MODELHOST_HOME is $home: it must be an absolute path, and not a folder of the system" ;;
esac
marker=$home/.installed-by-install.sh # only a folder with it is removed

# What the platform's service manager is; empty where the command has none.
manager() {
    if [ "$(uname -s)" = Darwin ]; then
        echo launchd
    elif command -v systemctl >/dev/null 2>&1; then
        echo systemd
    fi
}

program() { "$home/venv/bin/$name" "$@"; }

has_service() {
    case $(manager) in
    systemd)
        if [ -z "$user" ]; then
            [ -e "/etc/systemd/system/$name.service" ]
        else
            [ -e "${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user/$name.service" ]
        fi
        ;;
    launchd)
        if [ -z "$user" ]; then
            [ -e "/Library/LaunchDaemons/$name.plist" ]
        else
            [ -e "$HOME/Library/LaunchAgents/$name.plist" ]
        fi
        ;;
    *) false ;;
    esac
}

uninstall() {
    if [ -x "$home/venv/bin/$name" ] && has_service; then
        # shellcheck disable=SC2086 # $user is one option or none
        program service uninstall $user
    fi
    if [ "$(readlink "$bin/$name" 2>/dev/null)" = "$home/venv/bin/$name" ]; then
        rm -f "$bin/$name"
    fi
    if [ -e "$marker" ]; then
        rm -rf "$home"
        echo "removed $home"
    elif [ -e "$home" ]; then
        fail "$home was not made by this script, and stays"
    else
        echo "$name is not installed in $home"
    fi
}

# A Python that is new enough and makes virtual environments with pip.
find_python() {
    for python in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11; do
        if "$python" -c 'import ensurepip, venv, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$python"
            return 0
        fi
    done
    return 1
}

fetch() { # URL: its content on standard output
    if command -v curl >/dev/null 2>&1; then
        curl --proto '=https' --tlsv1.2 -fsSL "$1"
    elif command -v wget >/dev/null 2>&1; then
        wget -qO- "$1"
    else
        fail "needs Python 3.11 or later with venv (Debian, Ubuntu: apt-get install python3-venv), or curl to fetch one"
    fi
}

find_uv() {
    if command -v uv >/dev/null 2>&1; then
        command -v uv
    elif [ -x "$home/uv/uv" ]; then
        echo "$home/uv/uv"
    else
        echo "fetching uv, which fetches a Python" >&2
        fetch https://astral.sh/uv/install.sh >"$home/uv-install.sh" || fail "cannot fetch uv from https://astral.sh"
        UV_UNMANAGED_INSTALL="$home/uv" sh "$home/uv-install.sh" >&2 || fail "cannot install uv"
        rm -f "$home/uv-install.sh"
        echo "$home/uv/uv"
    fi
}

# Build the environment $1. It is complete, or the script fails and the one that was there stays.
build() {
    if python=$(find_python); then
        "$python" -m venv "$1"
        "$1/bin/python" -m pip --disable-pip-version-check --quiet install "$source"
    else
        uv=$(find_uv)
        UV_PYTHON_INSTALL_DIR=$home/python UV_CACHE_DIR=$home/cache "$uv" venv --quiet --python '>=3.11' "$1"
        UV_CACHE_DIR=$home/cache "$uv" pip install --quiet --python "$1/bin/python" "$source"
        rm -rf "$home/cache"
    fi
}

restore() {
    if [ -d "$home/previous" ]; then
        rm -rf "$home/venv"
        mv "$home/previous" "$home/venv"
    elif [ ! -e "$home/venv/bin/$name" ]; then
        rm -rf "$home" # nothing was installed before
    fi
}

install() {
    if [ -e "$home" ] && [ ! -e "$marker" ]; then
        fail "$home exists and was not made by this script: set MODELHOST_HOME to another folder"
    fi
    case $source in
    *.whl) [ -f "$source" ] || fail "$source: no such file" ;;
    esac
    mkdir -p "$home" "$bin"
    : >"$marker"
    rm -rf "$home/previous"
    # programs of an environment have its path in them, so the old one moves aside
    [ ! -d "$home/venv" ] || mv "$home/venv" "$home/previous"
    trap restore EXIT
    trap 'exit 1' HUP INT TERM
    build "$home/venv"
    program --version >/dev/null || fail "the installed program does not start"
    trap - EXIT HUP INT TERM
    rm -rf "$home/previous"
    ln -sfn "$home/venv/bin/$name" "$bin/$name"
    echo "installed $(program --version) in $home"
    case :$PATH: in
    *:"$bin":*) ;;
    *) echo "add $bin to PATH, or start $bin/$name" ;;
    esac
}

# Whether to start the service: what was said, or an answer from the terminal, which a piped script does not read from.
wants_service() {
    [ -n "$(manager)" ] || return 1
    case $service in
    yes) return 0 ;;
    no) return 1 ;;
    esac
    if ! (: </dev/tty) 2>/dev/null; then
        return 1
    fi
    printf 'start it now and at every boot? [y/N] ' >/dev/tty
    read -r answer </dev/tty || return 1
    case $answer in
    [yY]*) return 0 ;;
    *) return 1 ;;
    esac
}

start() {
    if has_service; then # an upgrade: restart with the flags that it has
        if [ "$(manager)" = systemd ]; then
            [ -n "$user" ] || [ -d /run/systemd/system ] || return 0 # it does not run: the next boot starts the service
            # shellcheck disable=SC2086 # $user is one option or none
            systemctl $user restart "$name"
        else
            domain=system
            [ -z "$user" ] || domain=gui/$(id -u)
            launchctl kickstart -k "$domain/$name"
        fi
    elif wants_service; then
        # shellcheck disable=SC2086 # likewise
        program service install $user
    else
        echo "start it with: $name; at every boot with: $name service install $user"
    fi
}

open_page() {
    for opener in xdg-open open; do
        if command -v "$opener" >/dev/null 2>&1; then
            "$opener" http://127.0.0.1:8585/ && return 0
        fi
    done
    echo "the live page is at http://127.0.0.1:8585/"
}

main() { # last, so that a script that arrives in part does nothing
    if [ "$action" = uninstall ]; then
        uninstall
        return 0
    fi
    install
    start
    [ "$open" = no ] || open_page
}

main
