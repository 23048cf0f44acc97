"""Data from elsewhere: named sets, publishers' files, synthetic series, each said to be real or not. May read files
and ask publishers; may not know the bus or any service.
"""
