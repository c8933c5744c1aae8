"""How good the answers are: predict, then learn; and the live measure."""
