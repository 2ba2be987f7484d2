"""Where and how a command runs: processes, terminal, tracking, options that change no result."""
