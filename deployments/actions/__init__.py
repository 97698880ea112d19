"""The only write path into releases and deployments for people, schedules, APIs and commands."""
