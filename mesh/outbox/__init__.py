"""The transactional outbox: facts are committed with the rows that they are about, and published afterwards."""
