"""`python -m breve` is the command `breve`."""

from breve.cli import main

main()
