-- What applied commits changed: objects, and what each device gets. For people; nothing is decided from it.

create table desired.plans (
    org_id uuid not null,
    source text not null,
    commit_id text not null,
    -- The commit the source was at before; null for its first one.
    base_commit text,
    digest bytea not null,
    summary jsonb not null,
    -- Names of devices are cut short where there are very many; the digest covers all.
    plan jsonb not null,
    created_at timestamptz not null,
    primary key (org_id, source, commit_id)
);
create index plans_newest on desired.plans (org_id, source, created_at desc);
