-- How far the devices are with the applied commit, and how far the applied commit is behind the newest one.
alter table desired.sources
    -- The newest applied commit that all devices concerned were healthy on.
    add column settled_commit text,
    add column settled_at timestamptz,
    -- Commits from the applied to the observed one; null: not known.
    add column behind_by int,
    add column devices bigint not null default 0,
    add column devices_updated bigint not null default 0,
    add column devices_failed bigint not null default 0;
