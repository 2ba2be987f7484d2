"""Which of two responses to a prompt is better, as people, a chat model or a reward say it."""
