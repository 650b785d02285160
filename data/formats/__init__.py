"""Files: one module a format, reader and writer together."""
