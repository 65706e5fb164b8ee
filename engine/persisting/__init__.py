"""From event stream to ledger: following the lanes, setting aside what breaks a rule, measuring the lag."""
