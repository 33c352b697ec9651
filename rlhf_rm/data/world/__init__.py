"""The synthetic world: dialogues, preferences and a gold reward function, all made from a seed."""
