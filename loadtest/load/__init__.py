"""`make load`: locust's users on an engine that runs."""
