"""The `hongbao` command: its words, its output, its exit codes.

Other rooms do the work.
"""
