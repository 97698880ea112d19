"""The only write path into contacts, on-call, the matrix, escalations and messages: a module for each."""
