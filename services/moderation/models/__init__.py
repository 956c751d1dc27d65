"""Models: what says how toxic a text is, and how much of spam a post has."""
