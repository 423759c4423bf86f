-- Left Git, in force until its grace is over: has a tombstone, or came from a source whose ResourceSync has one. Worked out
-- from those, and kept here so that every query can tell.
alter table desired.manifests add column leaving boolean not null default false;
alter table desired.fleets add column leaving boolean not null default false;
alter table desired.sources add column leaving boolean not null default false;
