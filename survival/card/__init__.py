"""The offline card: what a person needs on the night the portal itself is down.

`content` gathers it from the database, `page` makes one HTML file of it, `places` writes it, `sections` is the port for
higher rooms.
"""
