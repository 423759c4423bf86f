-- Commits that wait for a person, and what people decided about sources. Kept apart from desired state: a decision is not in
-- Git, and dropping desired state must not let a held commit through.

-- At most one commit of a source is held: the newest. Another one takes its place, and the decision goes with it.
create table source_holds (
    org_id uuid not null references orgs,
    source text not null,
    commit_id text not null,
    -- The commit that is applied meanwhile.
    base_commit text,
    reason text not null check (reason in ('BlastRadius', 'NonFastForward', 'PlanStale')),
    sentences text[] not null,
    -- The plan that was made last, see desired.plans.
    digest bytea not null,
    summary jsonb not null,
    plan jsonb not null,
    held_at timestamptz not null,
    -- The plan that was decided about.
    decided_digest bytea,
    approved boolean,
    decided_by text,
    decided_at timestamptz,
    decision_reason text,
    primary key (org_id, source),
    check (num_nulls(decided_digest, approved, decided_by, decided_at, decision_reason) in (0, 5))
);

-- Sources that are looked at and not applied.
create table source_suspensions (
    org_id uuid not null references orgs,
    source text not null,
    reason text not null,
    suspended_by text not null,
    suspended_at timestamptz not null,
    -- Null: until somebody resumes it.
    expires_at timestamptz,
    primary key (org_id, source)
);

-- Where the commit applied last lies: after a move to another repository or branch, history is not compared. Null in rows of
-- earlier versions: where the source is.
alter table source_positions add column url text, add column revision text;
