"""What a person reads: tables, pages, model cards."""
