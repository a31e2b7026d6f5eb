"""Copies a table into another one of the same columns, such as one with a layout; write times are kept."""
