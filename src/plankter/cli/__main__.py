"""``python -m plankter.cli``: the command where no script is on the path."""

from plankter.cli import main

main()
