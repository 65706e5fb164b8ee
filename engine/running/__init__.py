"""The processes of an installation: their list, starting them all, finding a running one.

What a process does is in other rooms. Starting and stopping any child is in `supervision`.
"""
