"""What a process tells of itself: metrics, logs and traces.

None of it holds a value of anybody's data, the text of a question, a name of an organisation, an address with
its parameters, or a token.
"""
