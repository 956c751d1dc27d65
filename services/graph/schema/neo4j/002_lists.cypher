// (:Person)-[:OWNS|ON_LIST|FOLLOWS_LIST|PINS_LIST {user_id, list_id, edge_id}]->(:PeopleList). edge_id orders pages; of
// OWNS it is the list's id. ON_LIST has `counted` too: whether the person's listed_count has it.
CREATE CONSTRAINT people_list IF NOT EXISTS FOR (l:PeopleList) REQUIRE l.id IS UNIQUE;
// Lists that were made without a request_id do not have the property, and so are not in it.
CREATE CONSTRAINT people_list_request IF NOT EXISTS FOR (l:PeopleList) REQUIRE (l.owner_id, l.request_id) IS UNIQUE;
CREATE CONSTRAINT on_list_pair IF NOT EXISTS FOR ()-[r:ON_LIST]-() REQUIRE (r.list_id, r.user_id) IS UNIQUE;
CREATE CONSTRAINT follows_list_pair IF NOT EXISTS FOR ()-[r:FOLLOWS_LIST]-() REQUIRE (r.list_id, r.user_id) IS UNIQUE;
CREATE CONSTRAINT pins_list_pair IF NOT EXISTS FOR ()-[r:PINS_LIST]-() REQUIRE (r.list_id, r.user_id) IS UNIQUE;

CREATE INDEX owns_by_user IF NOT EXISTS FOR ()-[r:OWNS]-() ON (r.user_id, r.edge_id);
CREATE INDEX on_list_by_user IF NOT EXISTS FOR ()-[r:ON_LIST]-() ON (r.user_id, r.edge_id);
CREATE INDEX on_list_by_list IF NOT EXISTS FOR ()-[r:ON_LIST]-() ON (r.list_id, r.edge_id);
CREATE INDEX follows_list_by_user IF NOT EXISTS FOR ()-[r:FOLLOWS_LIST]-() ON (r.user_id, r.edge_id);
CREATE INDEX follows_list_by_list IF NOT EXISTS FOR ()-[r:FOLLOWS_LIST]-() ON (r.list_id, r.edge_id);
CREATE INDEX pins_list_by_user IF NOT EXISTS FOR ()-[r:PINS_LIST]-() ON (r.user_id, r.edge_id);

// A list that was deleted has this label too, and nobody owns it any more.
CREATE INDEX gone_by_owner IF NOT EXISTS FOR (l:GoneList) ON (l.owner_id);
// A list that was deleted, or switched between private and public, and has relationships that do not say so yet.
CREATE INDEX unsettled IF NOT EXISTS FOR (l:UnsettledList) ON (l.id);
