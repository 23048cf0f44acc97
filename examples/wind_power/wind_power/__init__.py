"""Power of wind turbines: a service with a stream of its own, in a package of its own."""
