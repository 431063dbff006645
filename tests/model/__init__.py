"""A model of the write path: the protocol as pure steps over frozen values, taken in whatever order.

`world` holds the values; `requests`, `resolver`, `process` and `legacy` the steps; `database` what is durable;
`moves` says which steps there are in a world; `exploration` takes them, and after each holds the world against
`promises` (G1 to G5). Whatever the program decides without I/O is asked of the program itself: the log's batch and
its moves, the fold, the contract's rules, the judgement of an answer, the order of a batch, the look at a doubt, its
verdict, the attribution of creates, the memory of idempotency keys. Only the waiting in between is written here
once more. A crash may come after any step, so between any two.

What is left out, and why that is fair:

* A proxy's step is whatever it does between two waits. The event loop interrupts nowhere else, and a crash in between
  is a crash before or after, because only the log and the legacy outlive it.
* Several locks are taken at once. The program takes them one by one in sorted order; who holds some and waits for
  others does nothing meanwhile but keep others waiting.
* Who waits gets its turn in any order. What holds for every order holds for the one in which they came.
* Recovery is one step: no call is taken before it is over, and a crash within it leaves what a crash before it left,
  or after it.
* Time goes by in ticks, a third of `max_request`. Only what is before and after a deadline makes a difference.
* Every entity can be read whenever somebody looks. A read that fails is tried again, which is a look at another time;
  what can never be read is quarantined, and nothing but visibility is promised of it.
* One phase, in strict order, that fails closed, on the plain road. Where calls overlap, `proxy.observation` has tests
  of its own, and so have the spool, the streams and the sockets.
* While the stage is off calls pass, and the model lets them change nothing: what they change is the reconciler's.
* Two calls that make the same of the same note are taken for each other by anybody, so the promises count them
  together. The texts are few, so that this and every other mistaken identity happens often.
* Not all runs are tried, as a model checker would: chance and hypothesis choose. `test_flaws` shows that what they
  choose suffices to find the protocol wrong in each of the ways in which it could be built wrongly.
"""
