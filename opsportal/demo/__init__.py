"""The demo: the databases of a small trading company in a server of their own, and thirty days of looking after them.

`manage.py demo` loads it once and then finds it there. Nothing of the product imports this package.
"""
