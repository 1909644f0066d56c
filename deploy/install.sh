#!/bin/sh
# Installs cellblock from the folder this script lies in. Each step is printed before it is done.
set -eu

usage() {
    cat <<'USAGE'
usage: install.sh [options]

Installs cellblockd, cellblock-shim and cellctl, the units of systemd, the group `cellblock`, shell completions and
documents. Every step is printed. Nothing is started unless you say so, and files of yours in /etc/cellblock stay.

  --prefix DIR      where programs go: DIR/bin [default: /usr/local]
  --python PROGRAM  also make an environment for notebooks, PREFIX/lib/cellblock/python, with this Python (3.11 or
                    newer): IPython and dill, which workers need, and the packages of python/requirements.txt.
                    Without it, name an environment that has IPython and dill in /etc/cellblock/cellblockd.env
  --minimal         with --python: IPython and dill alone
  --user            install the units for users' own daemons, not the system's: no group, nothing in /etc/cellblock
  --start           enable and start the socket afterwards
  --destdir DIR     put everything below DIR, for packages: no user, unit or folder of this machine is touched
  --uninstall       remove what an installation with the same options has made; notebooks and settings stay
  --dry-run         only print
  --help            print this
USAGE
}

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

prefix=/usr/local destdir='' python='' minimal='' user='' start='' dry='' uninstall=''
while [ $# -gt 0 ]; do
    case $1 in
        --prefix | --destdir | --python) [ $# -ge 2 ] || fail "$1 needs a value" ;;
    esac
    case $1 in
        --prefix) prefix=$2; shift ;;
        --destdir) destdir=$2; shift ;;
        --python) python=$2; shift ;;
        --minimal) minimal=1 ;;
        --user) user=1 ;;
        --start) start=1 ;;
        --dry-run) dry=1 ;;
        --uninstall) uninstall=1 ;;
        --help) usage; exit 0 ;;
        *) usage >&2; fail "unknown option $1" ;;
    esac
    shift
done
case $prefix in
    /*[!A-Za-z0-9/._-]* | [!/]*) fail "--prefix must be absolute, of letters, digits, and / . _ -: $prefix" ;;
esac
[ -z "$destdir" ] || [ -z "$start$python" ] || fail "--destdir is for packages: without --start and --python"
from=$(cd "$(dirname "$0")" && pwd)
[ -n "$dry$destdir" ] || [ "$(id -u)" = 0 ] || fail "this writes to $prefix: run it as root, or look with --dry-run"

# systemd looks for units in /usr and /usr/local, and for those of other places in /etc.
case $prefix in
    /usr | /usr/local) lib=$prefix/lib ;;
    *) lib=/etc ;;
esac
units=$lib/systemd/system user_units=$lib/systemd/user

# Prints a step, and does it.
run() {
    say "+ $*"
    [ -n "$dry" ] || "$@"
}

# put MODE SOURCE TARGET: a file; one with programs in it names those of this prefix.
put() {
    say "+ install -m $1 $2 $destdir$3"
    [ -z "$dry" ] || return 0
    mkdir -p "$destdir$(dirname "$3")"
    case $2 in
        systemd/* | user/* | apparmor/*)
            # Beside it first: what reads it sees all of it or nothing.
            sed "s|/usr/local/|$prefix/|g" "$from/$2" > "$destdir$3.new" ;;
        *) cp "$from/$2" "$destdir$3.new" ;;
    esac
    chmod "$1" "$destdir$3.new"
    mv "$destdir$3.new" "$destdir$3"
}

# Every file of an installation: mode, source, target.
files() {
    for name in cellblockd cellblock-shim cellctl; do
        echo "755 bin/$name $prefix/bin/$name"
    done
    for name in cellblockd.socket cellblockd.service cellblock-workers.service; do
        if [ -n "$user" ]; then
            echo "644 user/$name $user_units/$name"
        else
            echo "644 systemd/$name $units/$name"
        fi
    done
    if [ -z "$user" ]; then
        echo "644 sysusers.d/cellblock.conf $lib/sysusers.d/cellblock.conf"
        echo "644 tmpfiles.d/cellblock.conf $lib/tmpfiles.d/cellblock.conf"
    fi
    # Only Ubuntu's restriction needs it; elsewhere its language may be too new.
    if [ -n "$destdir" ] || [ -e /proc/sys/kernel/apparmor_restrict_unprivileged_userns ]; then
        echo "644 apparmor/cellblock-shim /etc/apparmor.d/cellblock-shim"
    fi
    echo "644 tenants.toml $prefix/share/cellblock/tenants.toml"
    ls_below completions "$prefix/share/cellblock/completions"
    ls_below profiles "$prefix/share/cellblock/profiles"
    ls_below python "$prefix/share/cellblock/python"
    ls_below doc "$prefix/share/doc/cellblock"
}

ls_below() {
    [ ! -d "$from/$1" ] || (cd "$from" && find "$1" -type f | LC_ALL=C sort) |
        while read -r file; do echo "644 $file $2/${file#"$1"/}"; done
}

reload() {
    [ -z "$destdir" ] || return 0
    if [ -n "$user" ]; then
        say "(each user: systemctl --user daemon-reload)"
    elif [ -d /run/systemd/system ]; then
        run systemctl daemon-reload
    fi
}

make_environment() {
    where=$prefix/lib/cellblock/python
    command -v "$python" > /dev/null || fail "no such program: $python (--python)"
    run "$python" -m venv "$where"
    if [ -n "$minimal" ]; then
        run "$where/bin/python" -m pip install --quiet ipython dill
    else
        run "$where/bin/python" -m pip install --quiet --require-hashes --requirement "$from/python/requirements.txt"
    fi
}

remove() {
    if [ -z "$destdir$user" ] && [ -d /run/systemd/system ]; then
        # With the daemon its workers end; they save their variables.
        run systemctl disable --quiet --now cellblockd.socket cellblockd.service || :
    fi
    if [ -z "$destdir" ] && [ -f /etc/apparmor.d/cellblock-shim ] && command -v apparmor_parser > /dev/null; then
        run apparmor_parser -R /etc/apparmor.d/cellblock-shim || :
    fi
    files | while read -r _ _ target; do
        run rm -f "$destdir$target"
    done
    [ -z "$destdir" ] || return 0
    for folder in share/cellblock share/doc/cellblock lib/cellblock; do
        [ ! -e "$prefix/$folder" ] || run rm -r "${prefix:?}/$folder"
    done
    reload
    say "left as they are: /var/lib/cellblock (notebooks), /etc/cellblock (settings), the group cellblock"
}

install_all() {
    for name in cellblockd cellblock-shim cellctl; do
        [ -f "$from/bin/$name" ] || [ -n "$dry" ] || fail "$from/bin/$name is missing: unpack the whole archive"
    done
    files | while read -r mode source target; do
        put "$mode" "$source" "$target"
    done
    if [ -z "$user" ] && [ ! -e "$destdir/etc/cellblock/cellblockd.env" ]; then
        put 644 cellblockd.env /etc/cellblock/cellblockd.env
    fi
    if [ -z "$destdir$user" ]; then
        run systemd-sysusers "$lib/sysusers.d/cellblock.conf"
        run systemd-tmpfiles --create "$lib/tmpfiles.d/cellblock.conf"
    fi
    if [ -n "$python" ]; then
        make_environment
        setting=CELLBLOCK_PYTHON=$prefix/lib/cellblock/python/bin/python
        if [ -z "$user" ]; then
            say "+ set $setting in /etc/cellblock/cellblockd.env"
            [ -n "$dry" ] || sed -i "s|^#*CELLBLOCK_PYTHON=.*|$setting|" /etc/cellblock/cellblockd.env
        else
            say "(each user: $setting in ~/.config/cellblock/cellblockd.env)"
        fi
    fi
    if [ -z "$destdir" ] && [ -f /etc/apparmor.d/cellblock-shim ] && command -v apparmor_parser > /dev/null; then
        run apparmor_parser -r /etc/apparmor.d/cellblock-shim
    fi
    reload
    if [ -n "$start" ]; then
        [ -z "$user" ] || fail "--start is for the system's units; each user: systemctl --user enable --now cellblockd.socket"
        run systemctl enable --now cellblockd.socket
    fi
    say ""
    say "installed."
    [ -n "$python$destdir" ] ||
        say "next: name a Python that has IPython and dill in /etc/cellblock/cellblockd.env, or run this with --python python3"
    if [ -z "$start$destdir$user" ]; then
        say "next: systemctl enable --now cellblockd.socket"
    fi
    [ -n "$user" ] || say "who may use it: usermod -aG cellblock NAME (see docs: operations.md)"
    [ -n "$destdir" ] || say "look at what this host can hold: cellctl doctor"
}

if [ -n "$uninstall" ]; then remove; else install_all; fi
