-- Desired state: a projection of Git. The whole schema may be dropped at any time; the service makes it again and
-- arrives at the same rendered digests. Nothing durable may refer to it by key.

create schema if not exists desired;

create table desired.sources (
    org_id uuid not null,
    name text not null,
    -- 'config', or 'ResourceSync/<name>' of a manifest.
    origin text not null,
    url text not null,
    revision text not null,
    path text not null,
    observed_commit text,
    applied_commit text,
    applied_at timestamptz,
    last_polled_at timestamptz,
    conditions jsonb not null default '[]',
    diagnostics jsonb not null default '[]',
    primary key (org_id, name)
);

create table desired.manifests (
    org_id uuid not null,
    kind text not null,
    name text not null,
    source text not null,
    file text not null,
    line int not null,
    end_line int not null,
    document jsonb not null,
    digest bytea not null,
    commit_id text not null,
    generation bigint not null default 1,
    -- For a Device with a specification of its own: the revision made of it, or why none could be made.
    revision text,
    problem text,
    primary key (org_id, kind, name)
);
create index manifests_source on desired.manifests (org_id, source);

create table desired.fleet_revisions (
    org_id uuid not null,
    -- A fleet's name, or 'Device/<name>' for a device's own specification.
    fleet text not null,
    -- Derived from the content: the same content has the same name, also after the schema was made again.
    name text not null,
    digest bytea not null,
    template jsonb not null,
    -- One entry per pinned provider: {provider, repository, revision, commit, path, tree}.
    inputs jsonb not null,
    source text not null,
    commit_id text not null,
    created_at timestamptz not null default now(),
    primary key (org_id, fleet, name)
);

create table desired.fleets (
    org_id uuid not null,
    name text not null,
    source text not null,
    selector jsonb,
    revision text,
    -- Why no revision could be made of the newest template.
    problem text,
    primary key (org_id, name)
);

-- Files of pinned directories: entries are [{path, mode, digest}].
create table desired.file_trees (
    digest bytea primary key,
    entries jsonb not null
);
create table desired.blobs (
    digest bytea primary key,
    content bytea not null
);

-- Revisions of repositories that manifests refer to by name, as seen last. For people; nothing is decided from it.
create table desired.dependencies (
    org_id uuid not null,
    repository text not null,
    revision text not null,
    url text not null,
    commit_id text,
    last_polled_at timestamptz,
    error text,
    primary key (org_id, repository, revision)
);

create table desired.commits (
    org_id uuid not null,
    source text not null,
    commit_id text not null,
    seen_at timestamptz not null default now(),
    verdict text not null check (verdict in ('Applied', 'Refused')),
    diagnostics jsonb not null default '[]',
    changed int not null default 0,
    primary key (org_id, source, commit_id)
);
