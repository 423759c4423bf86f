-- What Git alone does not tell when desired state is made again: what content from elsewhere was in force, and who defines what.

-- The revisions in force that have content from elsewhere, with what was pinned of it. Written with the position: desired
-- state that is made again takes this content and no newer one, which the guard may have held.
create table source_pins (
    org_id uuid not null references orgs,
    source text not null,
    -- A fleet's name, or 'Device/<name>', see desired.fleet_revisions.
    owner text not null,
    revision text not null,
    -- Those of its inputs that are not of the source's own commit.
    inputs jsonb not null,
    primary key (org_id, source, owner)
);

-- Which source defines an object, as of the sources' positions: one that is not back yet keeps its names.
create table object_owners (
    org_id uuid not null references orgs,
    kind text not null,
    name text not null,
    source text not null,
    primary key (org_id, kind, name)
);
create index object_owners_source on object_owners (org_id, source);

-- An installation that runs already knows both. Where its desired state is damaged, it is as if nothing were known: objects
-- wait for content from elsewhere until it is judged, and names are free.
do $$
begin
    insert into source_pins (org_id, source, owner, revision, inputs)
    select used.org_id, used.source, used.owner, used.revision, elsewhere.inputs
    from (select f.org_id, f.source, f.name as owner, f.revision from desired.fleets f
          union all
          select m.org_id, m.source, 'Device/' || m.name, m.revision from desired.manifests m where m.kind = 'Device') as used
    join desired.fleet_revisions r
      on r.org_id = used.org_id and r.fleet = used.owner and r.name = used.revision,
    lateral (select jsonb_agg(input) filter (where input->>'repository' <> '.') as inputs
             from jsonb_array_elements(r.inputs) as input) as elsewhere
    where elsewhere.inputs is not null;
    insert into object_owners (org_id, kind, name, source)
    select m.org_id, m.kind, m.name, m.source from desired.manifests m
    where not exists (select from tombstones t where t.org_id = m.org_id and t.kind = m.kind and t.name = m.name);
exception
    when undefined_table or undefined_column or invalid_schema_name then null;
end
$$;
