"""From event stream to ledger: following the lanes, setting aside what breaks a rule, measuring the lag.

How one event becomes ledger entries is in `ledger`; rebuilding a lane is in `recovery`.
"""
