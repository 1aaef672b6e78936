# Outcomes held against the list of what passes.
#
# An outcome is lines `pass NAME`, `fail NAME: why` and `not run: NAME (why)`; other lines are talk.
# shellcheck shell=bash

# The entries of a list without comments.
listed() {
    sed -E 's/ *#.*//; /^ *$/d' "$1"
}

# Is a name part of this run?
selected() {
    if [ -n "$SF_COMPAT_CASES" ]; then
        [[ ,$SF_COMPAT_CASES, == *",$1,"* ]]
    elif [ -n "$SF_COMPAT_KILLED_EVERY" ]; then
        [[ $1 == killed-* ]]
    else
        [[ $1 != killed-* ]]
    fi
}

# Adds one client's outcome to passed, failed, known and not_run, and prints its own counts.
judge() {
    local client=$1 outcome=$2 name
    local before=("$passed" "$failed" "$known" "$not_run")
    local list=$compat/$client/tests.allow
    while read -r name; do
        selected "$name" || continue
        if grep -qxF "pass $name" "$outcome"; then
            passed=$((passed + 1))
        elif grep -qF "not run: $name (" "$outcome"; then
            not_run=$((not_run + 1))
        else
            failed=$((failed + 1))
            echo "FAILED $client: $name is in tests.allow and $(grep -qF "fail $name:" "$outcome" && echo "fails" || echo "gave no outcome")"
            tail -n 5 "$SF_COMPAT_WORK/errors.log"
        fi
    done < <(listed "$list")
    while read -r name; do
        listed "$list" | grep -qxF "$name" || echo "new: $client: $name passes, add it to tests.allow"
    done < <(sed -n 's/^pass //p' "$outcome")
    while read -r name; do
        listed "$list" | grep -qxF "$name" || not_run=$((not_run + 1))
    done < <(sed -nE 's/^not run: ([^ ]+) .*/\1/p' "$outcome")
    while read -r name; do
        listed "$list" | grep -qxF "$name" || known=$((known + 1))
    done < <(sed -nE 's/^fail ([^ :]+):.*/\1/p' "$outcome")
    printf '%s: %d passed, %d failed, %d known not to pass, %d not run\n' "$client" $((passed - before[0])) \
        $((failed - before[1])) $((known - before[2])) $((not_run - before[3]))
}
