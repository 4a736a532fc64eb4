"""The enforcement processor: creates one execution for each enforcement."""

from __future__ import annotations

from attune_executor import store
from attune_executor.rules import Rule, Rules
from attune_executor.transactions import Transactions, UnitOfWork
from attune_mq import Message, Reject, Service
from attune_mq.payloads import EnforcementCreated, EnforcementStatus, ExecutionRequested


class EnforcementProcessor:
    """Creates the execution (``requested``), and publishes the request to schedule it."""

    def __init__(self, transactions: Transactions, rules: Rules) -> None:
        self._transactions = transactions
        self._rules = rules

    def register(self, service: Service) -> None:
        service.on(EnforcementCreated)(self.on_enforcement)

    def on_enforcement(self, message: Message[EnforcementCreated]) -> None:
        """An enforcement of an unknown rule is dead-lettered, so that it can be replayed once the
        rules file has the rule."""
        rule = self._rules.rules.get(message.payload.rule_ref)
        if rule is None:
            raise Reject(f"no rule {message.payload.rule_ref!r} in the rules file")
        self._transactions.once(message, lambda unit: self._enforce(unit, message.payload, rule))

    def _enforce(self, unit: UnitOfWork, enforcement: EnforcementCreated, rule: Rule) -> None:
        status = EnforcementStatus.PROCESSED if rule.enabled else EnforcementStatus.DISABLED
        fresh = store.record_enforcement(unit.tx, enforcement, status, unit.now)
        if not (fresh and rule.enabled):
            return
        action = self._rules.actions[rule.action]
        config = {**rule.config, "event": enforcement.payload}
        execution_id = store.create_execution(
            unit.tx,
            enforcement_id=enforcement.enforcement_id,
            action_ref=rule.action,
            action_id=action.id,
            config=config,
            now=unit.now,
        )
        if execution_id is None:
            return
        unit.publish_after_commit(
            ExecutionRequested(
                execution_id=execution_id,
                action_id=action.id,
                action_ref=rule.action,
                enforcement_id=enforcement.enforcement_id,
                config=config,
            )
        )
