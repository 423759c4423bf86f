-- The key with which digests of secret contents are made, so that those who see a digest cannot compare it with guesses. Made
-- once; with another one, every document with a secret in it gets another digest.
create table installation_key (
    only_row boolean primary key default true check (only_row),
    key bytea not null check (octet_length(key) = 32)
);
