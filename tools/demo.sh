#!/usr/bin/env bash
# Sets up what is missing, then trains, fine-tunes and decodes a spoken-digits recogniser: the main job in small.
#
#   bash tools/demo.sh [--environment full|free] [--python PROGRAM] [--fresh]
#                      [--output-dir DIR] [--corpus-dir DIR] [--quick]
#
# --corpus-dir   the Free Spoken Digit Dataset's recordings; without it, speech is synthesised here
# --output-dir   where results go (outputs/demo)
# --quick        a short run that shows that everything works

# shellcheck source=tools/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
read_arguments "$@"
prepare_environment
[[ " ${remaining[*]} " == *" --output-dir"* ]] || remaining+=(--output-dir "$root_dir/outputs/demo")
exec "$python" "$root_dir/tools/digits/demo.py" "${remaining[@]}"
