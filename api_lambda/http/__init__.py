"""HTTP: the load balancer's events, and outgoing connections."""
