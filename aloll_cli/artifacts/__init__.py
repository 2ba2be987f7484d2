"""What is made: one class in one file each, and the line that connects them (line.py)."""
