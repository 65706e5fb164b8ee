"""The processes of an installation: which there are, how all are started, how one that runs is found."""
