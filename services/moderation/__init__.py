"""The `moderation` service: what is checked before it is published, what people report, and what moderators decide."""
