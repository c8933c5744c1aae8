"""Programs that produce events: a replay of files, a synthetic shop, a helper for applications."""
