"""One file per loss: a pure function that computes ``(B,)`` and passes it through the one reduction."""
