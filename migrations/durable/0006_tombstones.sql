-- Objects that left Git and stay in force until their grace is over. Durable: neither their end nor what they were can be
-- read from the newest commit, and dropping desired state must not end a grace early.
create table tombstones (
    org_id uuid not null references orgs,
    kind text not null,
    name text not null,
    -- What the object was, see desired.manifests.
    source text not null,
    file text not null,
    line int not null,
    end_line int not null,
    document jsonb not null,
    digest bytea not null,
    document_commit text not null,
    generation bigint not null,
    -- Of a fleet.
    selector jsonb,
    -- Of a ResourceSync: where the source lies that it brought in.
    url text,
    revision text,
    path text,
    -- The commit without the object.
    removed_by text not null,
    removed_at timestamptz not null,
    expires_at timestamptz not null,
    primary key (org_id, kind, name)
);
create index tombstones_expiry on tombstones (org_id, expires_at);
