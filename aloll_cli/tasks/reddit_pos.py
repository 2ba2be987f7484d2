"""Upvoted comments of Reddit to learn from; validation and test are those of ``reddit_neg``."""

from dataclasses import dataclass

from aloll_cli.tasks.reddit import Comments


@dataclass(kw_only=True)
class RedditPos(Comments):
    """Replies to comments, learned from those that many people voted up (task.min_reward)."""
