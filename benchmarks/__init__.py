"""Measurements that anyone can repeat, and their report."""
