"""Fault injection: real workers, servers and databases, killed, frozen and flushed at named points of a procedure.

`python -m tests.chaos` runs every case and prints its counts; `test_chaos.py` runs a short selection in the suite. A
new procedure is tested by adding one line to `SUBJECTS` in `subjects.py`. The product knows nothing of this: the
workers are started through `worker_app.py`, which wraps the engine's transitions and the procedures' methods.
"""
