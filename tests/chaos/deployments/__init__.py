"""Fault injection for deployments and rollbacks: real slots behind real proxies, under load, struck at every step.

`python -m tests.chaos.deployments` runs every case; `make chaos` does it too. The workers, servers and fault points are
those of `tests.chaos`. Every case ends with another deployment, which has to go out: nothing is locked for ever.
"""
