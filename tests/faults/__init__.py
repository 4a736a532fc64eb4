"""Faults at random times, and accounts that have to balance afterwards.

A publisher numbers what it sends (:mod:`publishing`), processes of their own take it
(:mod:`members`), effects are counted in a database (:mod:`effects`), and a schedule that a seed
makes (:mod:`schedule`) says which fault comes when (:mod:`kinds`). Afterwards :mod:`accounts` says
what was lost or doubled.

Beside them are systems that strike themselves, or what only they have: programs that publish under
signals, forks and on a slow link (:mod:`publisher_runs`), migrations under policies
(:mod:`migration_runs`), an outbox whose clock is set (:mod:`outbox_runs`).

    python -m tests.faults --seed 7
"""
