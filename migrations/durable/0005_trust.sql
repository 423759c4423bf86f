-- Commits are held too because a signature is missing or does not count.

alter table source_holds drop constraint source_holds_reason_check;
alter table source_holds add constraint source_holds_reason_check
    check (reason in ('BlastRadius', 'NonFastForward', 'UnsignedCommit', 'UntrustedSigner', 'PlanStale'));
