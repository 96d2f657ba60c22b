"""An LLM that says which of two answers is better: both orders, within its budget, each reply journalled.

The two orders of a pair count half each, and a reply that says no preference counts as a tie: the first answer's share
is 0, ¼, ½, ¾ or 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any

from alignment_api import digests
from alignment_api.judges import LLM
from alignment_api.measurements import FIRST_PREFERRED, LONGER_PREFERRED, ORDER_AGREEMENT, Measurement
from alignment_worker import judge_categories, llm_question
from alignment_worker.failures import Interrupted, JudgeBudgetError, JudgeUnusableError, WorkerError
from alignment_worker.interruption import run_interruptibly
from alignment_worker.llm_journal import REFUSED, Journal, Reply
from alignment_worker.llm_question import InvalidReplyError, Message, Preferred
from alignment_worker.rows import Prompt
from alignment_worker.statistics import judge_bias
from alignment_worker.statistics.judge_bias import Order
from alignment_worker.workspace import Workspace

_FIELDS = {"judge": "spec.judge.llm", "comparisonJudge": "spec.evaluation.comparison.judge.llm"}
_KEPT_WORDS = 500
_MOST_UNUSABLE = 0.2  # of the judgements; more than that is no judge
_ENOUGH = 50  # judgements, before it is given up half-way
_GRACE_SECONDS = 20.0  # for requests under way when the pod is told to stop: they are paid for


@dataclass(frozen=True)
class Matchup:
    """Two answers to one prompt, with their tokens, and the prompt's category where it is known."""

    prompt: Prompt
    first: str
    second: str
    first_tokens: int
    second_tokens: int
    category: str | None = None


@dataclass
class _Work:
    """What is asked of the endpoint, and what came of it: the two orders of each matchup."""

    matchups: Sequence[Matchup]
    done: Callable[[], None]
    replies: dict[tuple[int, bool], Reply] = field(default_factory=dict)
    failure: WorkerError | None = None
    stopping: bool = False


class LLMJudge:
    """`role` is `judge` or `comparisonJudge`. Raises InvalidConfigError if its key is missing."""

    def __init__(self, workspace: Workspace, llm: LLM, role: str) -> None:
        from alignment_worker.llm_endpoint import Endpoint  # noqa: PLC0415 - half a second that other judges do not need

        self._llm = llm
        self._field = _FIELDS[role]
        self._endpoint = Endpoint(llm, role, self._field)
        self._journal = Journal(
            workspace.stage_folder / "judgements" / f"{role}.jsonl",
            waiting=lambda: workspace.progress.begin(0, "judgements", "another pod judges; waiting for it"),
        )
        self._progress = workspace.progress
        self._orders: list[Order] = []
        self._categories: list[str | None] = []
        self._judged = self._unusable = self._refused = self._under_way = 0

    def shares(self, matchups: Sequence[Matchup], done: Callable[[], None]) -> list[float]:
        """Of the first answer of each; `done` is called after each. Equal answers tie, and cost nothing.

        Raises JudgeBudgetError, JudgeRefusedError, JudgeUnusableError, JudgeSilentError, Interrupted, OSError.
        """
        work = _Work([each for each in matchups if each.first != each.second], done)
        for _ in range(len(matchups) - len(work.matchups)):
            done()
        with self._journal:
            run_interruptibly(self._all(work))
        if work.failure is not None:
            raise work.failure
        if work.stopping:
            raise Interrupted
        self._refuse_if_unusable(enough=1)
        orders = iter([_order(work, index) for index in range(len(work.matchups))])
        found: list[float] = []
        for matchup in matchups:
            if matchup.first == matchup.second:
                found.append(0.5)
            else:
                order = next(orders)
                self._orders.append(order)
                self._categories.append(matchup.category)
                found.append(order.share)
        return found

    def counts(self) -> dict[str, int]:
        """Of the whole stage, earlier attempts included."""
        return {
            "judgements": self._judged,
            "judgeRequests": self._journal.requests,
            "judgeTokens": self._journal.tokens,
            "refusals": self._refused,
            "invalidReplies": self._unusable - self._refused,
        }

    def measurements(self, confidence: float) -> dict[str, Measurement]:
        """How far the judge can be trusted, from what it said."""
        return {
            ORDER_AGREEMENT: judge_bias.order_agreement(self._orders, confidence),
            FIRST_PREFERRED: judge_bias.first_preferred(self._orders, confidence),
            LONGER_PREFERRED: judge_bias.longer_preferred(self._orders, confidence),
        }

    def by_category(self, confidence: float) -> dict[str, dict[str, Measurement]]:
        """How often it says the same in both orders, in each category."""
        groups = judge_categories.grouped(self._orders, self._categories)
        return {
            category: {ORDER_AGREEMENT: judge_bias.order_agreement(orders, confidence)}
            for category, orders in groups.items()
        }

    async def _all(self, work: _Work) -> None:
        self._turn = asyncio.Condition()
        async with self._endpoint:
            places = ((index, turned) for index in range(len(work.matchups)) for turned in (False, True))
            count = min(self._llm.max_concurrency, 2 * len(work.matchups))
            askers = [asyncio.create_task(self._some(work, places)) for _ in range(count)]
            try:
                done, _ = await asyncio.wait(askers)
            except asyncio.CancelledError:
                work.stopping = True
                done, _ = await asyncio.wait(askers, timeout=_GRACE_SECONDS)
            for asker in done:
                asker.result()

    async def _some(self, work: _Work, places: Iterator[tuple[int, bool]]) -> None:
        """One of those who ask side by side; on a failure all end what they have begun, and begin nothing."""
        for place in places:
            if work.failure or work.stopping:
                return
            try:
                work.replies[place] = await self._preferred(work, *place)
            except WorkerError as error:
                work.failure = work.failure or error
                return
            self._progress.count("judgements")
            index, turned = place
            if (index, not turned) in work.replies:
                work.done()

    async def _preferred(self, work: _Work, index: int, turned: bool) -> Reply:
        asked = _question(self._llm, work.matchups[index], turned)
        reply = await self._reply(asked)
        if reply.preferred is None and reply.problem != REFUSED:
            reply = await self._reply(llm_question.repair(asked, reply.text, reply.problem))
        self._judged += 1
        if reply.preferred is None:
            self._unusable += 1
            self._refused += reply.problem == REFUSED
            self._refuse_if_unusable(_ENOUGH, f"; the last: {reply.problem}: {reply.text}")
        return reply

    async def _reply(self, asked: list[Message]) -> Reply:
        key = digests.of_json([self._llm.base_url, self._llm.model, asked])
        known = self._journal.get(key)
        if known is not None:
            return known
        async with self._affordable():
            said = await self._endpoint.ask(asked)
            reply = Reply(key, **_read(said.text, refused=said.refused), tokens=said.tokens)
            await self._journal.add(reply)
        return reply

    @asynccontextmanager
    async def _affordable(self) -> AsyncIterator[None]:
        """One request, once it is clear that the budget allows it. Raises JudgeBudgetError."""
        async with self._turn:
            while self._overspends() and self._under_way:
                await self._turn.wait()
            if limit := self._overspends():
                spent = self._journal
                raise JudgeBudgetError(
                    f"{self._field}.budget.{limit}: is reached, after {spent.requests} requests and {spent.tokens} "
                    "tokens. Raise it, or judge less: fewer prompts or completions, or fewer comparisons."
                )
            self._under_way += 1
        try:
            yield
        finally:
            async with self._turn:
                self._under_way -= 1
                self._turn.notify_all()

    def _overspends(self) -> str:
        """The limit that one more request would break, if those under way cost what the others did in the mean."""
        budget, spent, begun = self._llm.budget, self._journal, self._under_way
        if budget is None:
            return ""
        if budget.max_requests is not None and spent.requests + begun >= budget.max_requests:
            return f"maxRequests: {budget.max_requests}"
        if budget.max_tokens is None:
            return ""
        unknown = inf if begun else 0.0  # one goes ahead, to learn what a request costs
        mean = spent.tokens / spent.requests if spent.requests else unknown
        return (
            f"maxTokens: {budget.max_tokens}" if spent.tokens + mean * (begun + 1) > budget.max_tokens else ""
        )

    def _refuse_if_unusable(self, enough: int, last: str = "") -> None:
        if self._judged < enough or self._unusable <= _MOST_UNUSABLE * self._judged:
            return
        raise JudgeUnusableError(
            f"{self._field}: of {self._judged} judgements {self._unusable} say no preference ({self._refused} refused, "
            f"{self._unusable - self._refused} not as asked for, twice){last}. Name a model that holds to a JSON "
            "schema, or change the rubric."
        )


def _question(llm: LLM, matchup: Matchup, turned: bool) -> list[Message]:
    both = (matchup.second, matchup.first) if turned else (matchup.first, matchup.second)
    return llm_question.messages(llm.rubric, matchup.prompt, *both)


def _read(text: str, *, refused: bool) -> dict[str, Any]:
    if refused:
        return {"preferred": None, "problem": REFUSED}
    try:
        return {"preferred": llm_question.read(text)}
    except InvalidReplyError as error:
        return {"preferred": None, "problem": str(error), "text": text[:_KEPT_WORDS]}


def _order(work: _Work, index: int) -> Order:
    matchup = work.matchups[index]
    return Order(
        shown_first=work.replies[index, False].preferred,
        shown_second=_turned(work.replies[index, True].preferred),
        longer=matchup.first_tokens - matchup.second_tokens,
    )


def _turned(preferred: Preferred | None) -> Preferred | None:
    swapped: dict[Preferred, Preferred] = {"a": "b", "b": "a"}
    return swapped.get(preferred, preferred) if preferred else None
