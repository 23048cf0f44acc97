"""`python -m kappawatt.cli`."""

from kappawatt.cli.main import main

main()
