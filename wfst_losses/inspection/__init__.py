"""What graphs weigh, and what the machine they run on is made of."""
