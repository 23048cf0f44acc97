"""The command line, one file a command: options, progress, printing, exit codes. May know everything; nothing imports
it, and what another program might want stands below it.
"""
