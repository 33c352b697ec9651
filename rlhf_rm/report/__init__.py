"""What runs, votes, rounds, evaluations and judgements say together, as one page."""
