"""HTTP on both sides: the load balancer's events, and outgoing connections."""
