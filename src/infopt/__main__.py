"""``python -m infopt``."""

from infopt.cli import main

main(prog_name="infopt")
