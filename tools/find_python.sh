# shellcheck shell=bash
# Functions that find an interpreter; sourced by setup.sh.

# A command of that name may be a shim that cannot run, and Debian's Python may lack venv: what counts is what it says.
# Prints "MAJOR.MINOR ready" or "MAJOR.MINOR bare" (no venv module), nothing where it does not run.
probe_python() {
    "$1" -I -c '
import importlib.util, platform, sys
ready = all(map(importlib.util.find_spec, ("venv", "ensurepip"))) and platform.python_implementation() == "CPython"
print("%d.%d" % sys.version_info[:2], "ready" if ready else "bare")' 2>/dev/null
}

# Prints every place where a CPython of version $1 (such as 3.10) may be, likeliest first.
python_candidates() {
    local version=$1 program root uv named
    set +e # what is not there is passed over; this runs in a subshell
    mapfile -t named < <(type -ap "python$version")
    ((${#named[@]})) && printf '%s\n' "${named[@]}"
    for program in "${named[@]}" "${PYENV_ROOT:-/nowhere}/shims/any" "${HOME:-/nowhere}/.pyenv/shims/any"; do
        root=${program%/shims/*} # where a shim lies, the versions lie beside its folder
        [[ $root != "$program" ]] && compgen -G "$root/versions/$version.*/bin/python$version"
    done
    for uv in uv "$root_dir/.venv-free/bin/uv" "${HOME:-/nowhere}/.local/bin/uv"; do
        command -v "$uv" >/dev/null && "$uv" python find --no-project --python-preference only-managed "$version" 2>/dev/null
    done
    compgen -G "${HOME:-/nowhere}/.local/share/uv/python/cpython-$version.*/bin/python$version"
    type -ap python3 python
}

# find_python VERSION...: sets `found` to the first interpreter of one of these versions that can make an environment;
# `bare` to one that only lacks its venv module. Fails when there is none.
find_python() {
    local version candidate said
    found="" bare=""
    for version in "$@"; do
        while read -r candidate; do
            said=$(probe_python "$candidate") || continue
            [[ $said == "$version ready" ]] && found=$candidate && return 0
            [[ $said == "$version bare" && -z $bare ]] && bare=$candidate
        done < <(python_candidates "$version" | awk '!seen[$0]++')
    done
    return 1
}
