#!/usr/bin/env bash
# Sets up what is missing, then runs the linters: ruff check, ruff format, mypy --strict on both packages.
#
#   bash tools/lint.sh [--environment full|free]
#
# Free by default: types are checked against current torch. The hints of torch 1.13.1 are wrong in places.

# shellcheck source=tools/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
read_arguments --environment free "$@"
prepare_environment
cd "$root_dir"
status=0
"$python" -m ruff check . || status=1
"$python" -m ruff format --check . || status=1
"$python" -m mypy || status=1
exit "$status"
