"""What carries a message to the outside: one adapter a file. They take plain values and know no models."""
