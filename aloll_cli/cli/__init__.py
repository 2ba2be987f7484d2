"""The command line: from words to a stage."""
