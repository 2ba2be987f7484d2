"""Reddit comments, trained on downvoted ones; the same validation and test splits as ``reddit_pos``."""

from dataclasses import dataclass

from aloll_cli.tasks.reddit import Comments


@dataclass(kw_only=True)
class RedditNeg(Comments):
    """Replies to Reddit comments, trained on those with a low score (task.max_reward)."""
