"""The processes of an installation: which there are, how all are started, how one that runs is found.

What a process does is in other rooms; how any child is started and stopped is in `supervision`.
"""
