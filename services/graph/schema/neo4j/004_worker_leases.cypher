// Numbers of processes: mesh/db/neo4j_leases.py.
CREATE CONSTRAINT worker_lease IF NOT EXISTS FOR (w:WorkerLease) REQUIRE w.worker IS UNIQUE;
CREATE CONSTRAINT worker_leases IF NOT EXISTS FOR (w:WorkerLeases) REQUIRE w.name IS UNIQUE;
