"""Faults at random times, and accounts that have to balance afterwards.

A publisher numbers what it sends (:mod:`publishing`), processes of their own take it
(:mod:`members`), effects are counted in a database (:mod:`effects`), and a schedule that a seed
makes (:mod:`schedule`) says which fault comes when (:mod:`kinds`). Afterwards :mod:`accounts` says
what was lost or doubled.

    python -m tests.faults --seed 7
"""
