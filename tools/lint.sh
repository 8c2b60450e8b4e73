#!/usr/bin/env bash
# Runs the linters: ruff check, ruff format, mypy --strict on both packages. Needs an environment of tools/setup.sh.
#
#   bash tools/lint.sh [--environment full|free]

# shellcheck source=tools/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
read_arguments "$@"
prepare_environment
cd "$root_dir"
status=0
"$python" -m ruff check . || status=1
"$python" -m ruff format --check . || status=1
"$python" -m mypy || status=1
exit "$status"
