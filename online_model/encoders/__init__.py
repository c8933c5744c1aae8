"""Sequence encoders: from the vectors of the items of a sitting to one vector that items are scored with."""
