"""What a training's log shows of a divergence, and what becomes of one in the stage."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerControl, TrainerState

from alignment_api.cycle import Lora
from alignment_api.stage import ExitCode
from alignment_worker import ppo_training, train_weights
from alignment_worker.train_divergence import Divergence, Watch
from alignment_worker.train_trainer import ResumableTrainer, _Guard
from tests.worker import test_ppo_stage as ppo
from tests.worker import training
from tests.worker.test_train_stage import finished, message

NAN, INF = float("nan"), float("inf")


def seen(rows: list[dict[str, Any]], **settings: Any) -> Divergence | None:
    """The first divergence, by rows that are numbered from 1."""
    watch = Watch(**settings)
    found = (watch.see({"step": number, "loss": 0.5} | row) for number, row in enumerate(rows, 1))
    return next(filter(None, found), None)


def norms(*values: float) -> list[dict[str, Any]]:
    return [{"gradientNorm": value} for value in values]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"loss": NAN}, "the loss is nan"),
        ({"loss": -INF}, "the loss is -inf"),
        ({"gradientNorm": INF}, "the gradient's norm is inf"),
        ({"gradientNorm": NAN}, "the gradient's norm is nan"),
    ],
)
def test_what_is_not_finite_is_one_at_once(row: dict[str, Any], what: str) -> None:
    assert seen([*norms(1, 1, 1), row]) == Divergence(4, 4, what)


def test_the_weights_are_sound_up_to_the_step_before_the_last_calm_one() -> None:
    assert Divergence(9, 7, "").last_sound == 5


def test_a_norm_that_stays_far_above_the_usual_is_an_explosion() -> None:
    calm = [2.0] * 10
    found = seen(norms(*calm, 201, 300, 1000), clip_norm=1.0)
    assert found == Divergence(13, 11, "the gradient's norm is 1e+03 where 2 was usual")


@pytest.mark.parametrize(
    "rows",
    [
        norms(*[2.0] * 10, 201, 300, 2, 201, 300, 2),  # two in a row are a wild batch
        norms(*[2.0] * 10, 199, 199, 199, 199),
        norms(*[2.0] * 9, 201, 300, 1000),  # too little is known yet
        norms(*[0.001] * 10, 0.9, 0.9, 0.9),  # below what it is clipped to
        norms(*[2.0] * 10, *[50.0] * 10, 1000, 1000, 1000),  # the usual has risen
        norms(*[2.0] * 200, *[50.0] * 100, 1000, 1000, 1000),  # long ago it was lower
        norms(*[2.0] * 10, 200, 200, 200),
    ],
)
def test_what_is_no_explosion(rows: list[dict[str, Any]]) -> None:
    assert seen(rows, clip_norm=1.0) is None


@pytest.mark.parametrize(
    "before",
    [
        [2.0] * 10 + [300, 300, 2.0] * 20,  # wild steps are no part of the usual
        [2.0] * 9 + [150.0],  # nor does one that is almost wild move it
    ],
)
def test_the_usual_is_the_median_of_calm_steps(before: list[float]) -> None:
    found = seen(norms(*before, 300, 300, 300))
    assert found is not None
    assert found.what == "the gradient's norm is 300 where 2 was usual"


def test_without_clipping_a_norm_below_1_is_no_explosion() -> None:
    assert seen(norms(*[0.001] * 10, 0.9, 0.9, 0.9), clip_norm=0) is None
    assert seen(norms(*[0.001] * 10, 1.1, 1.1, 1.1), clip_norm=0) is not None


def test_a_scaled_loss_may_have_gradients_that_overflow() -> None:
    assert seen(norms(*[INF] * 5, 1, 1), scaled_loss=True) is None
    assert seen(norms(*[INF] * 11, *[2.0] * 10, 300, 300, 300), scaled_loss=True) is not None
    assert seen([{"loss": NAN}], scaled_loss=True) == Divergence(1, 1, "the loss is nan")


def test_answers_that_become_far_less_likely_are_a_collapse() -> None:
    def said(*rewards: float) -> list[dict[str, Any]]:
        return [{"rewardChosen": value, "answerTokens": 10.0} for value in rewards]

    found = seen(said(-2, -3, -7.1, -7.1, -7.2), beta=0.1)
    assert found == Divergence(5, 3, "the answers trained on are 5.2 nats a token less likely")
    assert seen(said(-2, -7, -7, -7, -7), beta=0.1) is None
    assert seen(said(-2, -7.1, -7.1, -2, -7.1, -7.1), beta=0.1) is None
    assert seen(said(0, -10, -10, -10), beta=0.25) is None
    assert seen(said(0, 10, 10, 10), beta=0.1) is None


@pytest.mark.parametrize(("nats", "stopped"), [(4.9, False), (5.1, True)])
def test_long_answers_and_short_ones_are_measured_by_the_token(nats: float, stopped: bool) -> None:
    fallen = [{"rewardChosen": -0.1 * nats * tokens, "answerTokens": tokens} for tokens in (2.0, 900.0) * 3]
    assert (seen([{"rewardChosen": 0.0, "answerTokens": 40.0}, *fallen], beta=0.1) is not None) == stopped


def test_a_batch_without_desirable_answers_says_nothing_of_them() -> None:
    answers = {"rewardChosen": -90.0, "answerTokens": 10.0}
    rows: list[dict[str, Any]] = [{}, answers, {}, answers, answers, answers]
    assert seen(rows) is None
    before = {"rewardChosen": 0.0, "answerTokens": 10.0}
    assert seen([{}, before, {}, answers, answers, answers]) is not None


def test_of_answers_alone_the_loss_tells() -> None:
    rows = [{"loss": loss, "tokenAccuracy": 0.5} for loss in (2.0, 1.5, 7.5, 7.6, 7.7)]
    assert seen(rows) == Divergence(5, 3, "the answers trained on are 5.7 nats a token less likely")
    assert seen([{"loss": loss} for loss in (2.0, 1.5, 7.5, 7.6, 7.7)]) is None


def test_a_policy_that_says_the_same_to_every_prompt_has_collapsed() -> None:
    def batches(*shares: float, reward: float = 0.3) -> list[dict[str, Any]]:
        """Two steps on each."""
        first = {"mostFrequent": shares[0], "reward": 0.3, "batch": 0}
        return [
            first,
            *(
                {"mostFrequent": share, "reward": reward, "batch": number}
                for number, share in enumerate(shares[1:], 1)
                for _ in range(2)
            ),
        ]

    found = seen(batches(0.2, 0.6, 0.95, 0.95, 1.0))
    assert found == Divergence(8, 4, "100% of a batch's answers are one and the same")
    assert seen(batches(0.2, 0.95, 0.95)) is None  # two batches, however many steps
    assert seen(batches(0.2, 0.95, 0.95, 0.95, reward=0.4)) is None  # it is what the judge wants
    assert seen(batches(0.6, 0.95, 0.95, 0.95)) is None  # most prompts have one answer
    assert seen(batches(0.2, 0.89, 0.89, 0.89)) is None


def test_what_breaks_after_wild_steps_is_sound_up_to_them() -> None:
    watch = Watch()
    for number, row in enumerate(norms(*[2.0] * 10, 500, 500), 1):
        assert watch.see({"step": number, "loss": 0.5} | row) is None
    assert watch.broken(13, "gone") == Divergence(13, 11, "gone")


def test_nothing_is_kept_while_it_is_suspicious() -> None:
    watch = Watch(clip_norm=1.0)
    kept = []
    for number, row in enumerate(norms(*[2.0] * 10, 500, 2, 500), 1):
        watch.see({"step": number, "loss": 0.5} | row)
        kept.append(not watch.suspicious)
    assert kept == [True] * 10 + [False, True, False]


def trained(norms: list[float]) -> tuple[TrainerState, TrainerControl]:
    """A trainer that has logged steps with these norms, and is about to keep a checkpoint."""
    history = [{"step": step, "loss": 0.5, "grad_norm": norm} for step, norm in enumerate(norms, 1)]
    return TrainerState(log_history=history), TrainerControl(should_save=True)


def test_a_training_that_is_gone_on_with_knows_what_was_usual() -> None:
    guard = _Guard(Watch())
    state, control = trained([2.0] * 10)
    guard.on_train_begin(None, state, control)
    for step in (11, 12, 13):
        state.log_history.append({"step": step, "loss": 0.5, "grad_norm": 300.0})
        control = TrainerControl(should_save=True)
        guard.on_log(None, state, control)
        assert not control.should_save
        assert control.should_training_stop == (step == 13)


def test_a_calm_step_may_be_kept() -> None:
    state, control = trained([2.0])
    _Guard(Watch()).on_log(None, state, control)
    assert control.should_save
    assert not control.should_training_stop


def broken_behind(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the optimizer leaves behind that step is no number."""
    whole = ResumableTrainer.training_step

    def training_step(self: Any, model: Any, *others: Any, **named: Any) -> Any:
        if self.state.global_step == step:
            with torch.no_grad():
                next(weights for weights in model.parameters() if weights.requires_grad).fill_(NAN)
        return whole(self, model, *others, **named)

    monkeypatch.setattr(ResumableTrainer, "training_step", training_step)


@pytest.mark.parametrize(
    ("method", "lora"), [("DPO", None), ("DPO", Lora(rank=4, alpha=8)), ("KTO", None), ("BestOfN", None)]
)
def test_the_last_sound_checkpoint_is_the_candidate(
    method: str, lora: Lora | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = training.llama(tmp_path / "start")
    settings: dict[str, Any] = {
        "method": method,
        "lora": lora,
        "checkpoint_every_steps": 4,
        "arguments": {"lr_scheduler_type": "constant"},
    }
    broken_behind(9, monkeypatch)
    done = finished(tmp_path / "broken", start, training.sampled_pairs(), **settings)
    assert done.code == 0, done.report.failure
    assert done.report.result is not None
    counts = done.report.result.counts
    assert (counts["steps"], counts["divergedAtStep"]) == (8, 10)
    assert [row["step"] for row in done.steps] == list(range(1, 11))
    assert done.steps[-1]["loss"] is None
    assert 0 < counts["parametersChanged"] <= counts["parameters"]
    assert {path.name for path in done.folder.iterdir()} == {"manifest.json", done.run_folder.name}

    monkeypatch.undo()
    sound = finished(tmp_path / "sound", start, training.sampled_pairs(8), **settings, epochs=4)
    assert sound.report.result is not None
    assert "divergedAtStep" not in sound.report.result.counts


def test_it_is_the_model_of_that_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same eight steps, trained without a fault behind them."""
    start = training.llama(tmp_path / "start")
    constant: dict[str, Any] = {
        "checkpoint_every_steps": 4,
        "arguments": {"lr_scheduler_type": "constant"},
        "epochs": 4,
    }
    straight = finished(tmp_path / "straight", start, training.sampled_pairs(8), **constant)
    broken_behind(9, monkeypatch)
    back = finished(tmp_path / "back", start, training.sampled_pairs(8), **(constant | {"epochs": 6}))
    assert len(straight.steps) == 8
    assert back.steps[:8] == straight.steps
    assert (back.model / "model.safetensors").read_bytes() == (
        straight.model / "model.safetensors"
    ).read_bytes()


def test_a_checkpoint_that_the_next_step_did_not_look_at_is_not_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = training.llama(tmp_path / "start")
    broken_behind(8, monkeypatch)
    done = finished(tmp_path, start, training.sampled_pairs(), checkpoint_every_steps=4)
    assert done.report.result is not None
    assert done.report.result.counts["steps"] == 4


@pytest.mark.parametrize(("epochs", "learned"), [(1, 0), (3, 24)])
def test_what_it_did_not_get_to_is_not_learned(
    epochs: int, learned: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six steps are an epoch; the model is that of the fourth, or of the eighth."""
    start = training.llama(tmp_path / "start")
    broken_behind(5 if epochs == 1 else 9, monkeypatch)
    people = {"people": [{"prompt": f"p{n}", "chosen": "a", "rejected": "b"} for n in range(24)]}
    done = finished(tmp_path, start, datasets=people, epochs=epochs, checkpoint_every_steps=4)
    assert done.report.result is not None, done.report.failure
    assert done.report.result.counts["steps"] == (4 if epochs == 1 else 8)
    assert len((done.run_folder / "learned-pairs.txt").read_text().splitlines()) == learned
    assert len((done.run_folder / "rows.jsonl").read_text().splitlines()) == 24


def test_without_a_sound_checkpoint_the_stage_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = training.llama(tmp_path / "start")
    broken_behind(4, monkeypatch)
    done = finished(tmp_path, start, training.sampled_pairs(), checkpoint_every_steps=4)
    assert "diverged at step 5: the loss is nan, with learningRate 0.001" in message(
        done, ExitCode.TRAINING_DIVERGED
    )


def test_weights_that_break_in_the_last_step_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No later step looks at them."""
    step = torch.optim.AdamW.step
    taken = []

    def last_breaks(self: Any, *others: Any, **named: Any) -> Any:
        done = step(self, *others, **named)
        taken.append(1)
        if len(taken) == 12:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(NAN)
        return done

    monkeypatch.setattr(torch.optim.AdamW, "step", last_breaks)
    start = training.llama(tmp_path / "start")
    done = finished(
        tmp_path,
        start,
        training.sampled_pairs(),
        checkpoint_every_steps=5,
        arguments={"max_grad_norm": 0, "optim": "adamw_torch"},
    )
    assert done.report.result is not None, done.report.failure
    counts = done.report.result.counts
    assert (counts["steps"], counts["divergedAtStep"]) == (10, 12)
    assert "epochs" not in counts
    assert train_weights.change(start, done.model).finite


def test_a_rate_that_is_far_too_high_is_seen_by_the_answers(tmp_path: Path) -> None:
    start = training.llama(tmp_path / "start")
    done = finished(
        tmp_path,
        start,
        training.sampled_pairs(),
        epochs=8,
        learning_rate=1.0,
        checkpoint_every_steps=2,
        arguments={"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 48},
    )
    assert done.report.result is not None, done.report.failure
    counts = done.report.result.counts
    assert counts["steps"] < counts["divergedAtStep"] - 3 < 45


def policy_broken_behind(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the last step on that batch, of those from 0, leaves behind is no number."""
    learn = ppo_training.Loop._learn

    def learn_and_break(self: Any, batch: Any) -> None:
        learn(self, batch)
        if self.state.batch == number:
            with torch.no_grad():
                next(iter(self._actor.trained().values())).fill_(NAN)

    monkeypatch.setattr(ppo_training.Loop, "_learn", learn_and_break)


def test_ppo_goes_back_to_its_last_sound_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of two steps; the policy breaks behind the fourth batch."""
    settings: dict[str, Any] = {"checkpoint_every_steps": 2, "ppo": {"target_kl": 100.0}}
    straight = ppo.finished(ppo.config(tmp_path, tmp_path / "straight", **settings), tmp_path / "first")
    policy_broken_behind(3, monkeypatch)
    done = ppo.finished(ppo.config(tmp_path, tmp_path / "back", **settings), tmp_path / "second")
    assert done.report.result is not None
    counts = done.report.result.counts
    assert [counts[name] for name in ("steps", "batches", "episodes", "divergedAtStep")] == [6, 3, 48, 9]
    assert done.steps == straight.steps[:8]
    assert train_weights.change(tmp_path / "start", done.model).changed > 0


def test_ppo_whose_last_step_breaks_goes_back_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy_broken_behind(7, monkeypatch)
    made = ppo.config(tmp_path, tmp_path / "out", checkpoint_every_steps=4, ppo={"target_kl": 100.0})
    done = ppo.finished(made, tmp_path / "job")
    assert done.report.result is not None
    assert done.report.result.counts["steps"] == 12


def test_ppo_that_starts_far_from_its_reference_takes_no_step(tmp_path: Path) -> None:
    ppo.config(tmp_path, tmp_path / "none")  # makes the start
    reference = Path(shutil.copytree(tmp_path / "start", tmp_path / "reference"))
    weights = load_file(reference / "model.safetensors")
    weights["model.norm.weight"] *= 1000
    save_file(weights, reference / "model.safetensors", metadata={"format": "pt"})
    made = ppo.config(tmp_path, tmp_path / "out", reference=reference)
    text = message(training.finish(made, tmp_path / "job"), ExitCode.TRAINING_DIVERGED)
    assert "diverged at step 1: the policy is " in text
    assert "nats a token from the reference" in text
