# shellcheck shell=sh
# To be sourced: how the scripts speak to the person who called make. All of it goes to standard error.

say() {
    printf '%s\n' "$*" >&2
}

fail() {
    printf '\n%s\n\n' "$*" >&2
    exit 1
}
