"""The HTTP server: gunicorn, its workers, draining, the lane beside Flask, the end with the parent. What touches
internals of gunicorn or Flask stands here and nowhere else.
"""
