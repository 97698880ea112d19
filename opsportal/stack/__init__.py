"""The embedded stack: PostgreSQL, Redis, web, workers and beat under one small supervisor.

Nothing here imports Django: the supervisor starts in a blink and outlives a broken setting.
"""


class StackError(Exception):
    """The stack cannot go on. The message is a sentence that says what to do next."""
