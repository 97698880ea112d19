"""What this room tells."""

from operations.events import declare

ARCHIVE_DAMAGED = declare("archive.damaged", "An archive was read, and is not what was once written")
ARCHIVE_MISSING = declare("archive.missing", "An archive is not where it should be")
