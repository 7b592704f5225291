"""A small market for tests: one prepared database and home, copied for each test that wants its own."""
