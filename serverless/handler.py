"""The handler of a package: lies at its root, and is what the platform imports."""

from kappawatt.serving.aws_lambda import make_handler

handler = make_handler()
