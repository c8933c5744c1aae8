"""The live view of `millstream demo`, and what runs behind it."""
