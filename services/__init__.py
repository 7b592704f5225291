"""Servers that the service tests talk to: for development and tests, never imported by the exchange.

Run as ``python -m services start|stop|status``; it needs the standard library alone. Each service is one
module with four functions, listed in ``__main__.SERVICES``:

- ``start(state)`` makes sure that it runs and returns its new state (a small JSON document);
- ``stop(state)`` ends it and removes its data;
- ``running(state)`` says whether it is up;
- ``environment(state)`` names what the tests need to find it.

States are kept in ``.services/`` of the checkout, data in a temporary directory.
"""
