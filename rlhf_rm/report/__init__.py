"""What many runs say together: tables and figures over seeds, with intervals."""
