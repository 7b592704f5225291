"""Access by OAuth 2: clients, grants, tokens and their scopes."""
