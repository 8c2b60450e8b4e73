"""Ways in from other toolkits: each module speaks to one of them."""
