"""From event stream to ledger: following the lanes, setting aside what breaks a rule, measuring the lag.

`ledger` turns one event into ledger entries. `recovery` rebuilds a lane.
"""
