-- The newest commit at the host that has the signatures which the policies ask for; the newest one where they ask for none.
alter table desired.sources add column verified_commit text;
