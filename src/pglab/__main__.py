"""``python -m pglab``, for where the command is not on PATH."""

from pglab.cli import main

main()
