"""Machines that are hard on the tests: what a command can be run under to find what depends on the machine.

Here belongs what makes a machine hostile, and what runs the suite on it; not what is tested there.
"""
