"""Small things of language that sentences share."""


def counted(number: int, word: str) -> str:
    """`1 table`, `1,200 tables`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
