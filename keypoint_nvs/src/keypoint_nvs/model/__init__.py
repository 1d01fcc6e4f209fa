"""Networks: reference attention, attention capture, Zero123++ and the tokens."""
