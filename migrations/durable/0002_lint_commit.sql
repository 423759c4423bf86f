-- The commit whose lint configuration judged the position's commit: looked at again, it is judged the same way. Null
-- when it was judged by its own.
alter table source_positions add column lint_commit text;
