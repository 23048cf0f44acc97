"""One folder a service, installed as part of kappawatt. A service may know all that serves it (`serving` and below) and
third parties; it may not know another service, a platform or a command, and what two of them need stands in the core.
"""
