"""Recipes: from the strength of each preference to the label columns that training reads."""
