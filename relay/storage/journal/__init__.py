"""The ingest journal: accepted bodies as they came, kept until every sink is done with them."""
