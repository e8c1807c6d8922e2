# Sourced by the scripts beside it: a virtual environment from the hashed locks, and the project in it as a built wheel.
# Needs a Python 3.10 or later with venv, and an index that pip reaches; nothing else.
# shellcheck shell=sh

# What a caller's own set-up must not change: where packages go, and what Python imports besides them.
unset PYTHONPATH PYTHONHOME PYTHONSAFEPATH PIP_TARGET PIP_PREFIX PIP_USER PIP_ROOT PIP_PYTHON PIP_NO_DEPS

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

say() {
    printf '\n== %s\n' "$1" >&2
}

# Print the first interpreter that will do. AIRGAP_PYTHON names one.
find_python() {
    for candidate in ${AIRGAP_PYTHON:+"$AIRGAP_PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
            command -v -- "$candidate"
            return
        fi
    done
    fail 'no Python 3.10 or later with venv found. Install one (on Debian: apt install python3-venv), or name it in AIRGAP_PYTHON.'
}

# environment FOLDER LOCK...: make FOLDER an environment with exactly these locks, and set $python and $bin.
# A finished one is used again while the locks, the interpreter and the folder's own path stay the same.
environment() {
    folder=$1
    shift
    base=$(find_python) || exit 1
    mkdir -p -- "$(dirname -- "$folder")"
    stamp=$("$base" - "$folder" "$@" <<'PYTHON'
import hashlib, os, pathlib, sys
seen = [sys.version, os.path.realpath(sys.executable), os.path.abspath(sys.argv[1])]
seen += [hashlib.sha256(pathlib.Path(lock).read_bytes()).hexdigest() for lock in sys.argv[2:]]
print(hashlib.sha256("\n".join(seen).encode()).hexdigest())
PYTHON
    )
    if [ ! -f "$folder/airgap-stamp" ] || [ "$(cat -- "$folder/airgap-stamp")" != "$stamp" ]; then
        if [ -d "$folder" ] && [ -n "$(ls -A -- "$folder")" ] && [ ! -f "$folder/pyvenv.cfg" ]; then
            fail "$folder is not a virtual environment, and not empty; it is left alone."
        fi
        say "Making $folder from $*"
        "$base" -m venv --clear -- "$folder"
    fi
    bin=$folder/bin
    [ -d "$bin" ] || bin=$folder/Scripts # where Windows keeps it
    python=$bin/python
    if [ ! -f "$folder/airgap-stamp" ]; then
        requirements=
        for lock in "$@"; do
            requirements="$requirements --requirement=$lock"
        done
        # The locks' names are relative and hold no spaces; the folder's name may.
        # shellcheck disable=SC2086
        "$python" -m pip --disable-pip-version-check install --quiet --no-compile --require-hashes $requirements
        # pip compiles on one processor, and this on all. What does not compile is told by whoever imports it.
        "$python" -m compileall -qq -j 0 "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" || :
        printf '%s\n' "$stamp" >"$folder/airgap-stamp"
    fi
}

# Build the project's wheel with the backend from the lock, without network, and install it into the environment.
install_project() {
    "$python" -m pip --disable-pip-version-check install --quiet --no-index --no-deps --no-build-isolation \
        --force-reinstall "$root"
}
