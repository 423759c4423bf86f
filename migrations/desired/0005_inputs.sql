-- Values of placeholders that decide what is pinned for a device (a branch by label, say), where nothing is pinned for
-- them: asked for by a device and not looked up yet, or looked up and not there.
create table desired.input_values (
    org_id uuid not null,
    fleet text not null,
    provider text not null,
    value text not null,
    -- Why nothing could be pinned; null while nobody has tried.
    reason text,
    primary key (org_id, fleet, provider, value)
);

-- Files of web servers that manifests take, as seen last.
create table desired.http_files (
    org_id uuid not null,
    url text not null,
    etag text,
    last_modified text,
    -- Of the contents, which lie in desired.blobs once a revision has them.
    digest bytea,
    last_polled_at timestamptz not null,
    error text,
    primary key (org_id, url)
);
