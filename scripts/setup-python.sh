#!/bin/sh
# Creates the virtual environment of every make target, with the versions pinned in constraints.txt.
# Returns at once where it matches pyproject.toml and constraints.txt.
#
# PYTHON=...  the interpreter; default: the newest suitable of 3.13, 3.12, 3.11 and python3
# VENV=...    the folder; default: .venv
set -eu
cd "$(dirname "$0")/.."
. scripts/messages.sh

venv=${VENV:-.venv}
stamp=$venv/.attune-setup

wanted_state() {
    cat pyproject.toml constraints.txt scripts/setup-python.sh | cksum
    pwd -P  # an environment does not survive being moved
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

can_make_environments() {
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1
}

full_version() {
    "$1" -c 'import sys; print(sys.version)'
}

install_venv_module() {
    # Debian keeps ensurepip in a package of its own for each Python.
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    sh scripts/apt-install.sh "$package" || true
    can_make_environments "$1" || fail \
"$1 cannot make virtual environments: it lacks the modules venv and ensurepip.
On Debian and Ubuntu: sudo apt-get install $package. Then call make again."
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3.13 python3.12 python3.11 python3
    fi
    without_venv=
    for candidate; do
        is_new_enough "$candidate" || continue
        if can_make_environments "$candidate"; then
            echo "$candidate"
            return
        fi
        without_venv=${without_venv:-$candidate}
    done
    [ -n "$without_venv" ] || fail \
"Python 3.11 or later is needed; python3 here: $(python3 --version 2>&1 || echo none).
Install one (Debian 12, Ubuntu 24.04 or later: python3 python3-venv; macOS: brew install python@3.13),
or name one: make PYTHON=/path/to/python3.12 ..."
    echo "$without_venv"
}

serves() {
    is_new_enough "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1 || return 1
    [ ! -e "$stamp" ] || [ "$(tail -n 1 "$stamp")" = "$(pwd -P)" ] || return 1
    [ -z "${PYTHON:-}" ] || [ "$(full_version "$venv/bin/python")" = "$(full_version "$PYTHON")" ]
}

require_writable() {
    [ -w "$1" ] || fail \
"You may not write to $(cd "$1" && pwd), and $venv has to be made or brought up to date.
Call make as the owner of the checkout, or put it elsewhere: make VENV=/tmp/attune-venv ..."
}

make_environment() {
    mkdir -p "$(dirname "$venv")"
    require_writable "$(dirname "$venv")"
    python=$(find_python)
    can_make_environments "$python" || install_venv_module "$python"
    say "Making $venv with $("$python" --version), once; this takes about a minute."
    "$python" -m venv --clear "$venv"
}

install_everything() {
    # The build backend comes with the group dev, pinned like the rest: hence no isolation in the last step.
    set -- "$venv/bin/python" -m pip install -qq --disable-pip-version-check --constraint constraints.txt
    "$@" pip && "$@" --group dev && "$@" --no-build-isolation --editable '.[executor,postgresql,tracing]'
}

[ -z "${PYTHON:-}" ] || is_new_enough "$PYTHON" || fail \
"PYTHON=$PYTHON is not Python 3.11 or later; it says: $("$PYTHON" --version 2>&1 | head -n 1)"

wanted=$(wanted_state)
if serves; then
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || exit 0
    require_writable "$venv"
    say "Bringing $venv up to date with pyproject.toml and constraints.txt."
else
    make_environment
fi
rm -f "$stamp"
install_everything || fail "pip could not install what constraints.txt names; its words are above."
printf '%s\n' "$wanted" >"$stamp"
