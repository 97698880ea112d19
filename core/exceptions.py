"""The error every room's own errors descend from."""


class PortalError(Exception):
    """Something expected went wrong. The message is one sentence for a person and says what to do next.

    `diagnostics` is plain text to put beside it, such as what `df` printed.
    """

    def __init__(self, message: str, diagnostics: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.diagnostics = diagnostics
