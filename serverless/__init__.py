"""A service as an AWS Lambda function: its package, and the platform's part of it on this machine."""
