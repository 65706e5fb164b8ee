"""Options of Postgres with which tests are quick."""

UNSAFE_BUT_FAST = {"fsync": "off", "full_page_writes": "off"}
"""A power cut loses the cluster; a killed server loses nothing, so commits stay synchronous."""
