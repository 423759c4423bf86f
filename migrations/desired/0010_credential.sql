-- The name of the credential that a source is read with; null: the one of the longest URL prefix.
alter table desired.sources add column credential text;
