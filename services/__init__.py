"""One folder a service, installed as part of kappawatt. A service may know everything below the command line, and third
parties; it may not know another service, and what two of them need stands in the core.
"""
