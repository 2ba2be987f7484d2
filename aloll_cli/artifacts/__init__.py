"""The artifacts: one class per file, and the pipeline that connects them (pipeline.py)."""
