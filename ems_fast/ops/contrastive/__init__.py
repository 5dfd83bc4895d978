"""The sentence-level contrastive objective."""
