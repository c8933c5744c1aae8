"""The topics: what is expected of them, their creation, and the check before a start."""
