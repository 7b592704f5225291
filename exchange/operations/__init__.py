"""The journeys, each readable top to bottom: listing, buying, quoting, querying, auditing, administering."""
