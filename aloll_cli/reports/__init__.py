"""Output for people: terminal tables, HTML pages, model cards."""
