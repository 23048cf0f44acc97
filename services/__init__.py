"""One folder a service. Services import kappawatt and third parties, never each other."""
