"""What a compliance officer should look at: rules over the log, and the queue of what they found."""
