"""`python -m opsportal.bench`: the portal measured against the bare programs it stands on. See docs/benchmarks.md."""
