"""The API: a Lambda behind a load balancer that serves live predictions with their provenance."""
