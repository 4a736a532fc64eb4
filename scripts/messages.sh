# shellcheck shell=sh
# To be sourced: messages of the scripts to the user of make, on standard error.

say() {
    printf '%s\n' "$*" >&2
}

fail() {
    printf '\n%s\n\n' "$*" >&2
    exit 1
}
