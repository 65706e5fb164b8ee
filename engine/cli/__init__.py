"""The `hongbao` command: its words, what it prints, its exit codes.

The work is done in the room that the command names.
"""
