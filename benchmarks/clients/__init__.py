"""Load generators that run in processes of their own, beside wrk."""
