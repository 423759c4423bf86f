-- Durable facts: what devices and people told us. Nothing here can be made again from Git.

create table orgs (
    id uuid primary key,
    name text not null unique,
    created_at timestamptz not null default now()
);
insert into orgs (id, name) values ('00000000-0000-0000-0000-000000000000', 'default');

-- Positions that API replicas read changed devices from. Taken under advisory lock 'device changes', so that they
-- become visible in order.
create sequence device_change_seq;

create table devices (
    org_id uuid not null references orgs,
    name text not null,
    created_at timestamptz not null default now(),
    -- Labels from enrolment (the device's own, the policy's, the approval's), and those in force: the former overlaid
    -- by the device's manifest.
    enrolled_labels jsonb not null default '{}',
    labels jsonb not null default '{}',
    owner_fleet text,
    conflicting_fleets text[] not null default '{}',
    -- Set when labels, ownership and rendering have to be looked at again.
    dirty boolean not null default true,
    -- The fleet revision (by its content name) that the rendered document was made from; null outside fleets.
    fleet_revision text,
    source text,
    commit_id text,
    rendered_version bigint not null default 0 check (rendered_version >= 0),
    rendered_digest bytea,
    rendered_at timestamptz,
    -- Why the newest revision could not be rendered for this device; its last good document stays.
    render_error text,
    reported_version bigint not null default 0,
    summary_status text not null default 'Unknown',
    updated_status text not null default 'Unknown',
    applications_status text not null default 'Unknown',
    lifecycle_status text not null default 'Enrolled',
    update_reason text not null default '',
    update_message text not null default '',
    generation bigint not null default 1,
    change_seq bigint not null,
    primary key (org_id, name)
);
create index devices_change_seq on devices (change_seq);
create index devices_owner on devices (org_id, owner_fleet);
create index devices_labels on devices using gin (labels jsonb_path_ops);
create index devices_dirty on devices (org_id, name) where dirty;

create table device_status (
    org_id uuid not null,
    name text not null,
    document jsonb not null,
    received_at timestamptz not null,
    primary key (org_id, name),
    foreign key (org_id, name) references devices on delete cascade
);

-- Heartbeats: narrow rows, updated in place.
create table device_liveness (
    org_id uuid not null,
    name text not null,
    last_seen timestamptz not null,
    primary key (org_id, name)
) with (fillfactor = 50);

create table enrollments (
    org_id uuid not null references orgs,
    name text not null,
    created_at timestamptz not null default now(),
    csr text not null,
    labels jsonb not null default '{}',
    device_status jsonb,
    known_rendered_version text,
    os_mode text,
    decision text check (decision in ('Approved', 'Denied')),
    decided_by text,
    decided_at timestamptz,
    decision_labels jsonb not null default '{}',
    replace_labels boolean not null default false,
    certificate text,
    -- Why an approved request could not be carried out.
    failure text,
    -- Digest of the enrolment policies that did not approve it: it is looked at again when they change.
    policies_seen bytea,
    primary key (org_id, name),
    check ((decision is null) = (decided_by is null)),
    check (certificate is null or decision = 'Approved')
);
create index enrollments_open on enrollments (org_id, name) where certificate is null and decision is distinct from 'Denied';

create table certificates (
    serial text primary key,
    org_id uuid not null references orgs,
    device text,
    signer text not null,
    fingerprint bytea not null,
    not_before timestamptz not null,
    not_after timestamptz not null,
    issued_at timestamptz not null default now(),
    revoked_at timestamptz,
    revocation_reason text
);
create index certificates_device on certificates (org_id, device);

create table certificate_signing_requests (
    org_id uuid not null references orgs,
    name text not null,
    created_at timestamptz not null default now(),
    -- Device/<name> or User/<name>: only the owner may read the answer.
    owner text not null,
    request text not null,
    signer_name text not null,
    usages text[] not null default '{}',
    expiration_seconds bigint,
    certificate text,
    primary key (org_id, name)
);

-- What was done, by whom.
create table events (
    id bigint generated always as identity primary key,
    org_id uuid not null references orgs,
    at timestamptz not null default now(),
    kind text not null,
    name text not null,
    reason text not null,
    type text not null check (type in ('Normal', 'Warning')),
    message text not null,
    actor text not null,
    details jsonb
);
create index events_object on events (org_id, kind, name, id desc);

-- Who may write desired state. The token grows with every change of hands; a writer with an old one is refused.
create table leases (
    name text primary key,
    holder text not null,
    token bigint not null,
    expires_at timestamptz not null
);

-- Which commit of each source was applied last. Lets the service know, when desired state has to be made again from Git,
-- whether all of it is back: until then no device is moved.
create table source_positions (
    org_id uuid not null references orgs,
    source text not null,
    origin text not null,
    commit_id text not null,
    manifests bigint not null,
    primary key (org_id, source)
);
