"""Learners without a neural network, behind the same protocol: what a recurrent model has to beat."""
