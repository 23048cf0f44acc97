"""Every performance number of the README, as a command: `python -m bench --help`."""
