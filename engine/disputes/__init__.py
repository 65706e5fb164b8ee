"""Complaints about a packet: filing and deciding them."""
