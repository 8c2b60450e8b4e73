#!/usr/bin/env bash
# Sets up what is missing, then runs all tests; the last line has the totals.
#
#   bash tools/test.sh [--environment full|free] [--python PROGRAM] [--fresh] [arguments of pytest]
#
# full has k2; free has none: the tests of k2 skip there, counted. A skip for want of any other package is a failure.

# shellcheck source=tools/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
read_arguments "$@"
prepare_environment
cd "$root_dir"

# The tests compare and count, they do not time: one thread each, two processes.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} MKL_NUM_THREADS=${MKL_NUM_THREADS:-1}
report=$(mktemp)
trap 'rm -f "$report"' EXIT
status=0
"$python" -m pytest -n 2 --junit-xml="$report" "${remaining[@]}" || status=$?
"$python" tools/test_totals.py "$report" --environment "$environment" --pytest-status "$status"
