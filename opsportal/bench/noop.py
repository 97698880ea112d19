"""An operation that does nothing, to see what the engine itself costs."""

from operations.context import StepContext
from operations.procedures import Procedure, Step, register

QUEUE = "bench"


@register
class Nothing(Procedure):
    """One empty step."""

    name = "bench.nothing"
    title = "Nothing"
    permission = "operations.control_operation"
    queue = QUEUE
    steps = (Step("nothing", "Do nothing"),)

    def nothing(self, ctx: StepContext) -> None:
        """What it says."""
