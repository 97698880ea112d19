"""Orders of the Hansewerk trading company."""
