"""Chains of steps: each step's request is made of the answers before it, and a batch of chains is a batch of such steps.

A chain has no engine, writer or retries of its own. Its steps are the rows of an ordinary job (`batch`), given one after
the other by a source of rows that waits for their answers; so gate, cache, cost, checkpoint and stop rules are the job's.
"""
