"""The best of a large catalogue without scoring all of it."""
