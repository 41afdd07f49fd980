"""``relay demo``: a relay at work among made-up customers, in one process; and its ledger."""
