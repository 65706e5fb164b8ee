"""Other ways to do the same work, each as its own community would write it, on the same keys."""
