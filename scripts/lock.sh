#!/bin/sh
# Writes constraints.txt: the newest version that pyproject.toml allows of every package and its dependencies.
# Resolved on Python 3.11, the oldest supported version, so that the list installs on later ones
# too. The list constrains versions and installs nothing by itself, so it applies to every platform.
set -eu
cd "$(dirname "$0")/.."
. scripts/messages.sh

python=${PYTHON:-python3.11}
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || fail \
"The lock is made with Python 3.11, and $python is not that. Name one: make lock PYTHON=/path/to/python3.11"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say "Resolving the newest versions with $("$python" --version); this takes about a minute."
"$python" -m venv "$work/venv"
set -- "$work/venv/bin/python" -m pip install -qq --disable-pip-version-check
"$@" --upgrade pip
"$@" --group dev --group fuzz
"$@" --no-build-isolation --editable '.[executor,postgresql,tracing]'
{
    echo '# Made by "make lock"; do not edit. Every version that the project is developed and tested with.'
    "$work/venv/bin/python" -m pip freeze --all --exclude-editable --exclude setuptools
} >"$work/constraints.txt"
if grep -n '[@/]' "$work/constraints.txt" | grep -v '^1:' >&2; then
    fail "The lines above name a place and not a version; constraints.txt is left as it was."
fi
cp "$work/constraints.txt" constraints.txt
say "constraints.txt is written; make check tells whether all still works with it."
