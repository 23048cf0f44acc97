"""The command line, one file a command: options, progress, printing, exit codes. May know everything; nothing may
import it, and what another program might want may not stand here but below.
"""
