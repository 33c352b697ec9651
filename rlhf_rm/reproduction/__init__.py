"""The paper's claims beside what was measured in the synthetic world."""
