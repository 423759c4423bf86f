-- Of a ResourceSync: the name of the credential that its source is read with.
alter table tombstones add column credential text;
