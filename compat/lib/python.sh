# The Python environment of the Python clients: exactly the versions of compat/requirements.txt.
# shellcheck shell=bash

python=$SF_COMPAT_CACHE/venv/bin/python

python_install() {
    local wanted=$compat/requirements.txt venv=$SF_COMPAT_CACHE/venv
    cmp -s "$wanted" "$venv/requirements-installed.txt" && return
    command -v python3 >/dev/null || {
        echo "not run: $1 (Python is not installed)"
        return 3
    }
    rm -rf "$venv"
    python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" || return
    cp "$wanted" "$venv/requirements-installed.txt"
}
