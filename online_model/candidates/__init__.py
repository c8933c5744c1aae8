"""Sources of candidates and their signals: counts, neighbours, history, what is popular."""
