"""What a vote tells: numbers, figures, and the pairs worth reading."""
