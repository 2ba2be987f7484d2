"""Downvoted comments of Reddit to learn from; validation and test are those of ``reddit_pos``."""

from dataclasses import dataclass

from aloll_cli.tasks.reddit import Comments


@dataclass(kw_only=True)
class RedditNeg(Comments):
    """Replies to comments, learned from those that many people voted down (task.max_reward)."""
