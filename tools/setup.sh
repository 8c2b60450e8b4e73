#!/usr/bin/env bash
# Builds an environment for this checkout, or does nothing when it is there and up to date.
#
#   bash tools/setup.sh [--environment full|free] [--python PROGRAM] [--fresh]
#
#   full   .venv: k2 1.23.4, torch 1.13.1, icefall's needs; CPython 3.10 on Linux x86-64
#   free   .venv-free: no k2, current torch; CPython 3.10 to 3.13
#
# Without --environment: full where a CPython 3.10 is found, else free. --fresh builds anew, whatever is there.
# WFST_LOSSES_ENVIRONMENT stands for --environment; WFST_LOSSES_ENVIRONMENTS names another folder to keep them in.
# demo.sh and test.sh source this file and call read_arguments and prepare_environment.

set -euo pipefail

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tools/find_python.sh
source "$root_dir/tools/find_python.sh"

say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# What an environment is made of: sets folder, versions, extras and where things are.
describe_environment() {
    constraints=$root_dir/tools/constraints/$1.txt
    case $1 in
        full)
            folder=.venv versions=(3.10)
            extras=torch,k2,openfst,digits,speech,icefall,dev packages=() ;;
        free)
            folder=.venv-free versions=(3.11 3.12 3.13 3.10)
            extras=torch,openfst,digits,speech,icefall,dev
            # It comes with torch for CUDA alone; its interpreter runs the CUDA kernels of the tests anywhere on Linux.
            packages=(triton) && [[ $(uname -s) == Linux ]] || packages=() ;;
        *) die "--environment is $1, expected full or free" ;;
    esac
    environment=$1
    environment_dir=$(realpath -ms "${WFST_LOSSES_ENVIRONMENTS:-$root_dir}")/$folder
    python=$environment_dir/bin/python
}

# The recipe of an environment in one line; where it differs from the line kept inside, something has to be done.
stamp() {
    printf '%s %s\n' "$root_dir" "$(cat "$constraints" "$root_dir/tools/constraints/k2.txt" "$root_dir/pyproject.toml" "$root_dir/tools/setup.sh" | cksum)"
}
stamp_file() { printf '%s\n' "$environment_dir/.wfst-losses"; }
is_current() { [[ $(cat "$(stamp_file)" 2>/dev/null) == "$(stamp)" ]] && fits "$(probe_python "$python")"; }
# Whether an answer of probe_python names a version that the environment can be built on.
fits() { [[ -n $1 && " ${versions[*]} " == *" ${1% *} "* ]]; }

# How to get CPython $1 here, as one command that needs no administrator. Where there is neither pyenv nor uv, uv comes
# by pip: that of the environment in folder $2 if given, as a system's own pip may refuse to install.
how_to_get() {
    local bin=${2:+$2/bin/}
    if command -v pyenv >/dev/null; then
        say "pyenv install $1"
    elif command -v uv >/dev/null; then
        say "uv python install $1"
    else
        say "${bin}pip install uv && ${bin}uv python install $1"
    fi
}

# One line for what is missing, and how to get it.
python_missing() {
    if [[ -n $bare ]]; then
        say "$bare has no venv module: apt-get install python${versions[0]}-venv (or your system's like), or $(how_to_get "${versions[0]}")"
    else
        say "no CPython ${versions[*]} found: $(how_to_get "${versions[0]}"), or install your system's package, or name one with --python"
    fi
}

# Sets what describe_environment sets, from what was asked for and what is there; `why_free` says why k2 is left out.
choose_environment() {
    local asked=$1 said=""
    if [[ -n $chosen_python ]]; then
        said=$(probe_python "$chosen_python") || die "--python $chosen_python does not run"
    fi
    if [[ -n $asked ]]; then
        describe_environment "$asked"
    elif [[ $(uname -sm) != "Linux x86_64" ]]; then
        why_free="k2 is packaged for Linux x86-64 alone"
    elif [[ -n $chosen_python && $said != 3.10\ * ]]; then
        why_free="$chosen_python is not CPython 3.10"
    else
        describe_environment full
        if [[ -z $chosen_python ]] && ! is_current && ! find_python 3.10; then
            why_free=${bare:+"$bare has no venv module"}
            why_free=${why_free:-"no CPython 3.10 found"}
        fi
    fi
    [[ -z $why_free ]] || describe_environment free
    if [[ -n $chosen_python ]]; then
        fits "$said" || die "--python $chosen_python is Python ${said% *}, the $environment environment needs ${versions[*]}"
        versions=("${said% *}")
    fi
}

# What is left out of the free environment, and the one line that adds it.
say_what_is_left_out() {
    local get
    get=$(how_to_get 3.10 "$environment_dir")
    find_python 3.10 && get=""
    say "Left out: k2, and with it the k2 backend, lattice_mwer_loss and icefall (${why_free:-as asked})."
    say "To add it: ${get:+$get && }bash tools/setup.sh --environment full"
}

# The versions of package $1 in the environment, one in all likelihood, none where it is not installed.
installed() {
    compgen -G "$environment_dir/lib/python*/site-packages/$1-*.dist-info" | sed -E "s/.*\/$1-([^+]*)(\+.*)?\.dist-info/\1/" || true
}

# A virtual environment that someone else made is taken over only when no torch or k2 in it would be replaced.
check_foreign() {
    local name version wanted
    for name in torch k2; do
        wanted=$(sed -n -E "s/^$name==([^;]*).*/\1/p" "$constraints")
        for version in $(installed "$name"); do
            [[ $version == "$wanted" ]] ||
                die "$folder holds $name $version, not ${wanted:-none}, and was not made by tools/setup.sh: move it away, or rebuild it with --fresh"
        done
    done
    say "Taking over $folder, which is there already."
}

# Makes the folder with Python and pip in it, unless a good one is there.
make_virtual_environment() {
    local said parent
    parent=$(dirname "$environment_dir")
    if [[ -e $environment_dir && -z $fresh ]]; then
        said=$(probe_python "$python" || true)
        if [[ -e $(stamp_file) ]]; then
            # Programs in bin/ name the place they were made for: in a moved checkout only a new environment will do.
            [[ $(cat "$(stamp_file)") == "$root_dir "* ]] && fits "$said" && "$python" -m pip --version >/dev/null 2>&1 && return
        else
            fits "$said" ||
                die "$folder was not made by tools/setup.sh and does not hold Python ${versions[*]}: move it away, or rebuild it with --fresh"
            check_foreign
            return
        fi
    fi
    if [[ -n $chosen_python ]]; then
        found=$chosen_python bare=$chosen_python
        [[ $(probe_python "$found") == *ready ]] || die "$(python_missing)"
    else
        find_python "${versions[@]}" || die "$(python_missing)"
    fi
    rm -rf "$environment_dir"
    mkdir -p "$parent" || die "cannot write to $parent"
    "$found" -m venv "$environment_dir" || die "$found could not make a virtual environment (see above)"
    printf '%s unfinished\n' "$root_dir" >"$(stamp_file)"
}

# The versions that matter, in one line.
pins() { sed -n -E 's/^((k2|torch|lhotse|numpy)==[^;]*).*/\1/p' "$constraints" | sed 's/==/ /' | paste -sd, | sed 's/,/, /g'; }

# Says what comes over the network and checks that there is room for it and for what it unpacks to, as measured.
# torch is a CPU or a CUDA build as the package index has it, so pip is asked which one it would take.
announce_download() {
    local plan room download="2.1 GB" gibibytes=7
    if [[ $environment == free ]]; then
        plan=$("$python" -m pip install -q -q --dry-run --report - -c "$constraints" torch) ||
            die "pip finds no torch for $("$python" -V) (see above): name another Python with --python"
        download="0.4 GB (torch for CPU)" gibibytes=3
        [[ $plan != *'"nvidia-'* ]] || download="3 GB (torch for CUDA)" gibibytes=10
    fi
    say "Downloads $download, needs $gibibytes GiB of disk, takes one to ten minutes."
    room=$(df -Pk "$environment_dir" | awk 'NR == 2 { print int($4 / 1048576) }')
    ((room >= gibibytes)) ||
        die "$room GiB free in $environment_dir, $gibibytes needed: make room, or name another folder in WFST_LOSSES_ENVIRONMENTS"
}

install_packages() {
    local quiet=(-q -q) begin=$SECONDS
    export PIP_USER=0     # a user's own setting would stop pip in an environment
    [[ -t 1 ]] && quiet=() # pip's progress bars are for people
    say "Setting up the $environment environment in $folder: $("$python" -V), $(pins) and what goes with them."
    # The first, small step shows whether there is an index within reach.
    "$python" -m pip install "${quiet[@]}" --retries 1 --timeout 20 -c "$constraints" -U pip setuptools wheel hatchling ||
        die "pip gets no packages (see above): check the network, or set PIP_INDEX_URL or PIP_FIND_LINKS to what you have"
    [[ -n $(installed torch) ]] || announce_download
    [[ $environment == free ]] ||
        "$python" -m pip install "${quiet[@]}" --no-deps -r "$root_dir/tools/constraints/k2.txt" ||
        die "pip could not install k2 (see above); the same command goes on from here"
    "$python" -m pip install "${quiet[@]}" --no-build-isolation -c "$constraints" -e "${root_dir}[$extras]" "${packages[@]}" ||
        die "pip could not install the packages (see above); the same command goes on from here"
    "$python" -c 'import torch, topologies, wfst_losses' ||
        die "the environment does not work (see above): build it anew with --fresh"
    [[ $environment == free ]] || "$python" -c 'import k2' || die "k2 does not load (see above): build it anew with --fresh"
    stamp >"$(stamp_file).new" && mv "$(stamp_file).new" "$(stamp_file)"
    say "Set up in $((SECONDS - begin)) s."
}

# Takes the arguments of set-up out of those given and leaves the others in `remaining`.
read_arguments() {
    asked=${WFST_LOSSES_ENVIRONMENT:-} chosen_python="" fresh="" remaining=()
    while (($#)); do
        case $1 in
            --environment=* | --python=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue ;;
            --environment | --python)
                (($# > 1)) || die "$1 needs a value; --help shows what there is"
                if [[ $1 == --python ]]; then chosen_python=$2; else asked=$2; fi
                shift ;;
            --fresh) fresh=yes ;;
            -h | --help) sed -n '2,/^[^#]*$/s/^# \{0,1\}//p' "$0" && exit 0 ;;
            *) remaining+=("$1") ;;
        esac
        shift
    done
}

# Builds what is missing. Afterwards `environment` is its name and `python` its interpreter.
prepare_environment() {
    why_free=""
    choose_environment "$asked"
    if [[ -n $fresh ]] || ! is_current; then
        exec 9<"$root_dir" # two set-ups at once would tread on each other: the second waits here
        command -v flock >/dev/null && flock 9
        if [[ -n $fresh ]] || ! is_current; then
            make_virtual_environment
            install_packages
        fi
        exec 9<&-
    fi
    if [[ $environment == free ]]; then say_what_is_left_out; fi
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    read_arguments "$@"
    ((${#remaining[@]} == 0)) || die "unknown argument ${remaining[0]}; --help shows what there is"
    prepare_environment
    say "The $environment environment is ready: $environment_dir"
fi
