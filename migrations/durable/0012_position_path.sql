-- The path that a commit was in force with: at another one it is not brought back when desired state is made again. NULL where
-- an earlier version noted it and that cannot be told.
alter table source_positions add column path text;

do $$
begin
    update source_positions p set path = s.path from desired.sources s
    where s.org_id = p.org_id and s.name = p.source and s.applied_commit = p.commit_id;
exception
    when undefined_table or undefined_column or invalid_schema_name then null;
end
$$;
