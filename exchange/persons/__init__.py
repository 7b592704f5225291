"""Persons: who they are, of which organisations they are members, and how they prove it on the portal.

Drawn from bottom to top: :mod:`~exchange.persons.tables` holds the tables; :mod:`~exchange.persons.passwords`
(Argon2), :mod:`~exchange.persons.codes` (one-time codes) and :mod:`~exchange.persons.passkeys` (WebAuthn) are
each the one door to their library and know no database; :mod:`~exchange.persons.throttling` counts tries,
:mod:`~exchange.persons.accounts` keeps persons, memberships and invitations, :mod:`~exchange.persons.factors`
second factors, :mod:`~exchange.persons.sessions` the sessions of the portal. What a person does with them are
operations.
"""
