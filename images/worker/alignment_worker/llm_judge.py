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
from pathlib import Path
from typing import Any

from alignment_api import digests
from alignment_api.judges import API_KEY_VARIABLES, LLM
from alignment_api.measurements import FIRST_PREFERRED, LONGER_PREFERRED, ORDER_AGREEMENT, Measurement
from alignment_worker import judge_categories, llm_question
from alignment_worker.failures import Interrupted, JudgeBudgetError, JudgeUnusableError, WorkerError
from alignment_worker.interruption import run_interruptibly
from alignment_worker.llm_journal import REFUSED, Journal, Reply
from alignment_worker.llm_question import InvalidReplyError, Message, Preferred
from alignment_worker.progress import Progress
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


@dataclass(frozen=True)
class Seat:
    """Where a judge sits: the spec's field, the environment's variable with its key, its journal, and who buys."""

    field: str
    key_variable: str
    journal: Path
    buyer: str = ""


def seat(workspace: Workspace, role: str) -> Seat:
    """Of a cycle's stage; `role` is `judge` or `comparisonJudge`."""
    journal = workspace.stage_folder / "judgements" / f"{role}.jsonl"
    return Seat(_FIELDS[role], API_KEY_VARIABLES[role], journal)


@dataclass
class _Work:
    """What is asked of the endpoint, and what came of it: the two orders of each matchup."""

    matchups: Sequence[Matchup]
    done: Callable[[], None]
    replies: dict[tuple[int, bool], Reply] = field(default_factory=dict)
    failure: WorkerError | None = None
    stopping: bool = False


class LLMJudge:
    """Raises InvalidConfigError if its key is missing."""

    def __init__(self, llm: LLM, seat: Seat, progress: Progress) -> None:
        from alignment_worker.llm_endpoint import Endpoint  # noqa: PLC0415 - half a second that other judges do not need

        self._llm = llm
        self._field = seat.field
        self._endpoint = Endpoint(llm, seat.key_variable, self._field)
        self._journal = Journal(
            seat.journal,
            waiting=lambda: progress.begin(0, "judgements", "another pod judges; waiting for it"),
            buyer=seat.buyer,
        )
        self._buyer = seat.buyer
        self._used: dict[str, Reply] = {}  # by key, whoever bought them
        self._progress = progress
        self._orders: list[Order] = []
        self._categories: list[str | None] = []
        self._judged = self._unusable = self._refused = self._under_way = 0

    def shares(self, matchups: Sequence[Matchup], done: Callable[[], None]) -> list[float]:
        """Of the first answer of each; `done` is called after each. Equal answers tie, and cost nothing.

        Raises JudgeBudgetError, JudgeRefusedError, JudgeUnusableError, JudgeSilentError, Interrupted, OSError.
        """
        work = self._worked(matchups, done)
        if work.failure is not None:
            raise work.failure
        return [share for share in self._shares(matchups, work) if share is not None]

    def affordable(self, matchups: Sequence[Matchup], done: Callable[[], None]) -> list[float | None]:
        """The same, but a budget that is reached ends the asking: None of what it left over. Raises the others."""
        work = self._worked(matchups, done)
        if work.failure is not None and not isinstance(work.failure, JudgeBudgetError):
            raise work.failure
        return self._shares(matchups, work)

    def forget_others(self) -> None:
        """Of the journal stays what was asked here. Raises as `shares` does of the store."""
        with self._journal:
            self._journal.keep_only(self._used.keys())

    def counts(self) -> dict[str, int]:
        """Of the whole stage, earlier attempts included; of what a dataset's other refreshes bought, what is used."""
        return {
            "judgements": self._judged,
            "judgeRequests": len(self._used),
            "judgeTokens": sum(reply.tokens for reply in self._used.values()),
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

    def _worked(self, matchups: Sequence[Matchup], done: Callable[[], None]) -> _Work:
        work = _Work([each for each in matchups if each.first != each.second], done)
        for _ in range(len(matchups) - len(work.matchups)):
            done()
        if not work.matchups:
            return work
        with self._journal:
            run_interruptibly(self._all(work))
        if work.failure is None or isinstance(work.failure, JudgeBudgetError):
            if work.stopping:
                raise Interrupted
            self._refuse_if_unusable(enough=1)
        return work

    def _shares(self, matchups: Sequence[Matchup], work: _Work) -> list[float | None]:
        asked = iter(range(len(work.matchups)))
        found: list[float | None] = []
        for matchup in matchups:
            if matchup.first == matchup.second:
                found.append(0.5)
                continue
            order = _order(work, next(asked))
            if order is not None:
                self._orders.append(order)
                self._categories.append(matchup.category)
            found.append(None if order is None else order.share)
        return found

    async def _all(self, work: _Work) -> None:
        self._turn = asyncio.Condition()
        async with self._endpoint:
            # What is known first: a budget that is reached leaves over only what would cost something.
            places = iter(sorted(_places(work), key=lambda place: not self._knows(work, *place)))
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

    def _knows(self, work: _Work, index: int, turned: bool) -> bool:
        return self._journal.get(self._key(_question(self._llm, work.matchups[index], turned))) is not None

    def _key(self, asked: list[Message]) -> str:
        return digests.of_json([self._llm.base_url, self._llm.model, asked])

    async def _reply(self, asked: list[Message]) -> Reply:
        key = self._key(asked)
        reply = self._journal.get(key)
        if reply is None:
            async with self._affordable():
                said = await self._endpoint.ask(asked)
                read = _read(said.text, refused=said.refused)
                reply = Reply(key, **read, tokens=said.tokens, buyer=self._buyer)
                await self._journal.add(reply)
        self._used[key] = reply
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


def _places(work: _Work) -> Iterator[tuple[int, bool]]:
    return ((index, turned) for index in range(len(work.matchups)) for turned in (False, True))


def _order(work: _Work, index: int) -> Order | None:
    """None where an order was not asked."""
    if not ((index, False) in work.replies and (index, True) in work.replies):
        return None
    matchup = work.matchups[index]
    return Order(
        shown_first=work.replies[index, False].preferred,
        shown_second=_turned(work.replies[index, True].preferred),
        longer=matchup.first_tokens - matchup.second_tokens,
    )


def _turned(preferred: Preferred | None) -> Preferred | None:
    swapped: dict[Preferred, Preferred] = {"a": "b", "b": "a"}
    return swapped.get(preferred, preferred) if preferred else None
