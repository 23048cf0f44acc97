"""The entry of an image: which role it runs, with which settings a platform gave, and its health command."""
