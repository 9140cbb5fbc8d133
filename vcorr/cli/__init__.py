"""Holds the command line, one module per command. Nothing heavy is imported before a command needs it."""
