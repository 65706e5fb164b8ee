"""Starlette and redis.asyncio."""
