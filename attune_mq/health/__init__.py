"""Health that tells the truth: whether a service consumes, publishes and is set up *now*.

Standard library only. Every answer is given from memory: what takes time (the broker, a database)
is asked all the time by threads of its own, and an answer that does not come is itself an answer,
since each is stale after :data:`~attune_mq.health.checks.ANSWER_MAX_AGE_S` seconds. So no request
to the server waits, and no fault is seen later than that.
"""
