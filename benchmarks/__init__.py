"""Measurements that anyone can run again, and the report they make."""
