"""The scripts that run inside Redis, one a file; each file's header is its contract."""
