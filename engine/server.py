"""The API process has moved to ``api.server``; this name stays until the command uses that one."""

from api.server import serve

__all__ = ["serve"]
