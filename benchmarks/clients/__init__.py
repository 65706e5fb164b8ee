"""Load generators in separate processes, besides wrk."""
