"""Searches: what may be tuned, the study that proposes, the coordinator that asks and tells, and the winner as a declaration."""
