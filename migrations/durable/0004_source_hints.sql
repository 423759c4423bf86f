-- When a webhook last announced that a source changed. A table of its own, so that no hint waits for an apply, which
-- locks the source's row.
create table source_hints (
    org_id uuid not null references orgs,
    source text not null,
    hinted_at timestamptz not null,
    primary key (org_id, source)
) with (fillfactor = 50);
