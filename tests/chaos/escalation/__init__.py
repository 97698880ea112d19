"""Escalations under fire: workers are killed, Redis is flushed, PostgreSQL crashes, and no step may be lost or doubled.

`python -m tests.chaos.escalation --steps 100000 --rate 200` is the full run; `test_escalation_chaos.py` a short one.
"""
