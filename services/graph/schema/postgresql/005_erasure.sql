-- A person who is erased leaves nothing, rows of lists deleted before neither.
CREATE INDEX lists_left ON lists (owner_id) WHERE gone;
