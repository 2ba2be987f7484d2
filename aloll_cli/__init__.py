"""aloll: offline reinforcement learning of language models on reward-labelled text."""

__version__ = "0.1.0"
