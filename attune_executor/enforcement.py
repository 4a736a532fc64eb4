"""The enforcement processor: one execution for each enforcement."""

from __future__ import annotations

from attune_executor import store
from attune_executor.ledger import Entry, Ledger
from attune_executor.rules import Rule, Rules
from attune_mq import Message, Reject, Service
from attune_mq.payloads import EnforcementCreated, EnforcementStatus, ExecutionRequested


class EnforcementProcessor:
    """Takes ``EnforcementCreated``, makes an execution (``requested``), asks for its scheduling."""

    def __init__(self, ledger: Ledger, rules: Rules) -> None:
        self._ledger = ledger
        self._rules = rules

    def register(self, service: Service) -> None:
        service.on(EnforcementCreated)(self.on_enforcement)

    def on_enforcement(self, message: Message[EnforcementCreated]) -> None:
        """An enforcement of a rule that the file does not have is dead-lettered, so that it can be
        replayed once the rule is there."""
        rule = self._rules.rules.get(message.payload.rule_ref)
        if rule is None:
            raise Reject(f"no rule {message.payload.rule_ref!r} in the rules file")
        self._ledger.once(message, lambda entry: self._enforce(entry, message.payload, rule))

    def _enforce(self, entry: Entry, enforcement: EnforcementCreated, rule: Rule) -> None:
        status = EnforcementStatus.PROCESSED if rule.enabled else EnforcementStatus.DISABLED
        fresh = store.record_enforcement(entry.tx, enforcement, status, entry.now)
        if not (fresh and rule.enabled):
            return
        action = self._rules.actions[rule.action]
        config = {**rule.config, "event": enforcement.payload}
        execution_id = store.create_execution(
            entry.tx,
            enforcement_id=enforcement.enforcement_id,
            action_ref=rule.action,
            action_id=action.id,
            config=config,
            now=entry.now,
        )
        if execution_id is None:
            return
        entry.say(
            ExecutionRequested(
                execution_id=execution_id,
                action_id=action.id,
                action_ref=rule.action,
                enforcement_id=enforcement.enforcement_id,
                config=config,
            )
        )
