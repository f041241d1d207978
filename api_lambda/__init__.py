"""The API: a Lambda behind a load balancer that serves live predictions and says where they come from."""
