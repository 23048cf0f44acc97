"""Any file of the trade -> series, and how it was read. Tables come from a library; times, labels, units and zones
are told here, and what a file leaves open is refused with the option that settles it.
"""
