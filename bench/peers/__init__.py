"""The peers that accuracy is compared with: each in an environment of its own, behind one JSON request."""
