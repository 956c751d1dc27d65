"""The tweets store on Cassandra: acts.py and journal.py say how something is done there, the others what."""
