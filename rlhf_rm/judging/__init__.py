"""Win, tie or lose: two files of responses to the same prompts, side by side."""
