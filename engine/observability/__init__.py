"""What an operator sees of a process: logs, metrics, output.

Other rooms decide what is counted.
"""
