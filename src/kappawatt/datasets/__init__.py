"""Data from elsewhere: named sets, files of any layout, synthetic series, each said to be real or not. May read files
and ask publishers; may not know the bus or any service.
"""
