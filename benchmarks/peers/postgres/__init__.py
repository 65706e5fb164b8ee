"""Starlette and asyncpg."""
