"""Reddit comments, trained on upvoted ones; the same validation and test splits as ``reddit_neg``."""

from dataclasses import dataclass

from aloll_cli.tasks.reddit import Comments


@dataclass(kw_only=True)
class RedditPos(Comments):
    """Replies to Reddit comments, trained on those with a high score (task.min_reward)."""
