"""What probing costs: plain and probed passes side by side, at true size, without any weights."""
