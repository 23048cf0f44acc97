"""Lambda and SageMaker: events to requests, models from S3, archives, the calls that make an endpoint. May know AWS's
formats and boto3; nothing outside this folder does, but for `models.s3`.
"""
