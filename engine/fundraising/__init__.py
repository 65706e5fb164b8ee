"""Fund-raising 募捐: gifts to one fund with a goal and a deadline, matched by merchants.

In the end all of it is paid to a beneficiary, or every gift goes back. Everything is in the ledger: nothing here needs
Redis.
"""
