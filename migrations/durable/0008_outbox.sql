-- What Git hosts are still to be told of commits, and what they were told a short while ago. Durable: a decision that was made
-- is told also when the service stops before it could.

create sequence outbox_seq;

-- One row for each thing that can be told of a commit: its newest state. A newer state takes the place of an older one, told
-- or not, so that a host that was away hears only what holds.
create table outbox (
    org_id uuid not null references orgs,
    source text not null,
    -- The repository, as the source named it when this was written.
    url text not null,
    commit_id text not null,
    context text not null,
    state text not null check (state in ('pending', 'success', 'failure', 'error')),
    description text not null check (char_length(description) <= 140),
    target_url text,
    -- In which order things are told; grows whenever the row says something else.
    sequence bigint not null,
    created_at timestamptz not null,
    attempts int not null default 0,
    next_attempt_at timestamptz not null,
    last_error text,
    -- When the host took it, or when it was given up; null: it waits.
    sent_at timestamptz,
    primary key (org_id, source, commit_id, context)
);
create index outbox_waiting on outbox (org_id, source, context, sequence) where sent_at is null;
create index outbox_rollouts on outbox (org_id, source) where context = 'shorebase/rollout' and state in ('pending', 'failure');
