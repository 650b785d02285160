"""The command line: each command parses its arguments, calls the Python API and prints."""
