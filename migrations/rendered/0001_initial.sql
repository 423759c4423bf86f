-- Rendered documents, by content. Apart from desired state, because a device that belongs to no fleet any more keeps its
-- last document, and that cannot be made again from Git. Documents of fleets come back by themselves.

create schema if not exists rendered;

create table rendered.specs (
    digest bytea primary key,
    body bytea not null,
    created_at timestamptz not null default now()
);
