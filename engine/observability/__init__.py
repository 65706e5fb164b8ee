"""What an operator sees of a process: logs, metrics, output. What is counted is decided where it happens."""
