"""The handler of a package: lies at its root, and is what the platform imports."""

from kappawatt.deploy.aws.lambda_function import make_handler

handler = make_handler()
