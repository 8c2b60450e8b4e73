"""``python -m wfst_losses.cli``."""

from wfst_losses.cli import main

main()
