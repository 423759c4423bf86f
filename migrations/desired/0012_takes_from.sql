-- What sources take content from, by the name of a Repository: webhooks of those wake them. HEAD stands for any
-- revision, also where placeholders decide.
create table desired.takes_from (
    org_id uuid not null,
    source text not null,
    repository text not null,
    revision text not null,
    primary key (org_id, source, repository, revision)
);
insert into desired.takes_from (org_id, source, repository, revision)
select distinct m.org_id, m.source, ref->>'repository',
       case when ref->>'targetRevision' like '%{{%' then 'HEAD' else coalesce(ref->>'targetRevision', 'HEAD') end
from desired.manifests m, jsonb_path_query(m.document, '$.spec.**.config[*].gitRef') as ref
where m.kind in ('Fleet', 'Device') and ref->>'repository' <> '.'
on conflict do nothing;

-- A digest of the rules about signatures that the applied commit was judged by; null: not known.
alter table desired.sources add column trust_digest bytea;
