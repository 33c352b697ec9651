"""The steps of `iterate`: which command does what with what, in which order."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from rlhf_rm.commands.build import starting_policy
from rlhf_rm.commands.forward import Forwarded, forwarded, named_paths, paths_in
from rlhf_rm.commands.numbers import check_numbers
from rlhf_rm.commands.responses import drawn
from rlhf_rm.commands.steps import search_path
from rlhf_rm.data.responses import MAX_RESPONSES
from rlhf_rm.data.world.source import WorldSource
from rlhf_rm.errors import UserError
from rlhf_rm.files import fingerprint
from rlhf_rm.judging.gold import GoldJudge
from rlhf_rm.methods.reward import RewardModule
from rlhf_rm.models.hub import local_copy
from rlhf_rm.overrides import override_of
from rlhf_rm.rounds.stage import NOT_INPUT, Stage, round_name

POLICY_INIT, REWARD_INIT = ("sft", "previous"), ("base", "anew", "previous")
TRAINED = ("export", "metrics.json")
MODEL_OF = ("model.architecture=null", "model.vocab_size=null")  # a trained model is no fresh one


@dataclass(frozen=True)
class Plan:
    """All steps, in their order.

    Args:
        stages: of all rounds.
        parts: of each round its stages by their part: ``reward``, ``policy``, ``judgement``, …
        method: of the reward model.
    """

    stages: tuple[Stage, ...]
    parts: tuple[dict[str, Stage], ...]
    method: str


def make_plan(cfg: DictConfig, root: Path) -> Plan:
    """The steps that the configuration asks for.

    Raises:
        UserError: settings out of their range, or no policy to begin with.
    """
    _check(cfg)
    hydra = HydraConfig.get()
    parts = ("reward", "policy")
    further: Any = {
        part: OmegaConf.to_container(cfg[part], resolve=True) if cfg[part] else {} for part in parts
    }
    given = forwarded(hydra.overrides.task, **further)
    choices: Any = hydra.runtime.choices
    return Planner(cfg, root, given, f"data={choices.data}", choices.judge, choices.method).plan()


def from_files(plan: Plan, root: Path) -> Plan:
    """The same steps, each depending also on what configuration files of the user's own say.

    The package's own need no look: with the version and the overrides they say all.

    Args:
        plan: its steps know their overrides alone.
        root: where everything lies.
    """

    def known(stage: Stage) -> Stage:
        where = [override_of("paths.run_dir", str(stage.place(root))), "paths.cache_dir=."]
        composed = compose(stage.command, overrides=[*stage.overrides, *where, *search_path()])
        for name in NOT_INPUT:  # before others are made of it
            OmegaConf.update(composed, name, None, merge=False, force_add=True)
        told: Any = OmegaConf.to_container(composed, resolve=True)
        del told["paths"]
        found = [path for path in paths_in(told) if not path.is_relative_to(root)]
        settings = fingerprint(json.dumps(told, sort_keys=True).replace(str(root), "."))
        return replace(stage, settings=settings, reads=tuple(dict.fromkeys((*stage.reads, *found))))

    stages = {stage: known(stage) for stage in plan.stages}
    parts = [{name: stages[stage] for name, stage in some.items()} for some in plan.parts]
    return Plan(tuple(stages.values()), tuple(parts), plan.method)


def _check(cfg: DictConfig) -> None:
    if not isinstance(cfg.rounds, int) or cfg.rounds < 1:
        raise UserError(f"rounds={cfg.rounds} must be a whole number of at least 1.")
    for name, allowed in (("policy_init", POLICY_INIT), ("reward_init", REWARD_INIT)):
        if cfg[name] not in allowed:
            raise UserError(f"{name}={cfg[name]} is unknown: use one of {', '.join(allowed)}.")
    if not issubclass(get_class(cfg.method.module._target_), RewardModule):
        raise UserError(
            "method is how each round trains its reward model: meta, reward, denoised, contrastive or "
            "meta_contrastive; the policy learns by PPO."
        )
    for name in ("sampled", "judged"):
        prompts = cfg[name].prompts
        if prompts is not None and (not isinstance(prompts, int) or prompts < 1):
            raise UserError(
                f"{name}.prompts={prompts} must be a whole number of at least 1, or null for all."
            )
        if not isinstance(cfg[name].temperature, int | float) or cfg[name].temperature < 0:
            raise UserError(f"{name}.temperature={cfg[name].temperature} must be a number of at least 0.")
    if _climbs(cfg) and cfg.sampled.temperature == 0:
        raise UserError(
            "sampled.temperature=0 gives the same response each time, and MetaRM climbs where responses to a "
            "prompt differ: set it above 0 (its default is sampling.temperature), or use method=reward."
        )
    if not isinstance(cfg.judged.k, int) or not 1 <= cfg.judged.k <= MAX_RESPONSES:
        raise UserError(f"judged.k={cfg.judged.k} must be a whole number from 1 to {MAX_RESPONSES}.")
    if missing := sorted(OmegaConf.missing_keys(cfg.judge)):
        raise UserError(f"the judge needs {missing[0]}: say it now, since it judges after each round.")
    if issubclass(get_class(cfg.judge._target_), GoldJudge) and not _is_world(cfg):
        raise UserError(
            "judge=gold judges by the true reward, which the synthetic world alone has: use judge=reward "
            "judge.run=RUN, or judge=endpoint."
        )


def _is_world(cfg: DictConfig) -> bool:
    return issubclass(get_class(cfg.data._target_), WorldSource)


def _climbs(cfg: DictConfig) -> bool:
    """Whether the reward model is trained by MetaRM, on responses of the policy."""
    return "ascent" in cfg.method.module


class Planner:
    """Lays out the rounds.

    Args:
        cfg: of `iterate`.
        root: where everything lies.
        given: overrides for each kind of step.
        data: the override that chooses the data.
        judge: which judge was chosen.
        method: of the reward model.
    """

    def __init__(
        self, cfg: DictConfig, root: Path, given: Forwarded, data: str, judge: str, method: str
    ) -> None:
        self.cfg, self.root, self.given, self.data, self.judge = cfg, root, given, data, judge
        self.method = method
        # The policy's own overrides may name another model than the reward model's, and each another seed.
        policy = compose("train", overrides=["method=ppo", *given.policy, *search_path()])
        reward = compose("train", overrides=[f"method={method}", *given.reward, *search_path()])
        for part, training in (("policy", policy), ("reward", reward)):
            try:
                check_numbers(training)
            except UserError as error:
                raise UserError(f"{part}={{…}}: {error}") from error
        self.seeds = {"policy": policy.seed, "reward": reward.seed}
        self.start = starting_policy(policy, make=not cfg.dry_run)
        self.world = _is_world(cfg)
        self.climbs = _climbs(cfg)

    def plan(self) -> Plan:
        """All rounds."""
        begin = self._answers("start/answers", self.start)
        stages, parts = [begin], []
        before: dict[str, Stage] = {"answers": begin}
        for number in range(1, self.cfg.rounds + 1):
            found = self._round(number, before, begin)
            stages += [stage for stage in found.values() if stage not in stages]
            parts.append(found)
            before = found
        return Plan(tuple(stages), tuple(parts), self.method)

    def _round(self, number: int, before: dict[str, Stage], begin: Stage) -> dict[str, Stage]:
        """The stages of one round by their part, in the order in which they are done."""
        name, seed = round_name(number), self.cfg.seed + number - 1
        policy = before["policy"].output(self.root) if "policy" in before else self.start
        stages: dict[str, Stage] = {}
        if self.climbs:
            stages["responses"] = self._sample(
                f"{name}/responses", policy, self.cfg.sampled, drawn(self.cfg.meta), seed
            )
        if self.climbs or self.cfg.reward_init != "base" or "reward" not in before:
            stages["reward"] = self._reward(number, before.get("reward"), stages.get("responses"))
        else:
            stages["reward"] = before["reward"]  # nothing that it depends on has changed
        judged = self.cfg.judged
        if self.world and judged.k > 1 and judged.temperature > 0:  # else no response is better than another
            stages["accuracy"] = self._accuracy(name, stages["reward"], before["answers"])
        stages["policy"] = self._policy(number, stages["reward"], before.get("policy"))
        stages["answers"] = self._answers(f"{name}/answers", stages["policy"].output(self.root))
        stages["judgement"] = self._judgement(name, stages["answers"], begin)
        return stages

    def _sample(self, name: str, policy: Path | str, asked: DictConfig, k: int, seed: int) -> Stage:
        overrides = (
            *self._data_and(self.given.sample),
            override_of("run", str(policy)),
            override_of("set", asked.set),
            override_of("limit", asked.prompts),
            override_of("sampling.temperature", asked.temperature),
            f"k={k}",
            f"seed={seed}",
            f"gold={str(self.world).lower()}",
            override_of("output", str(self.root / name / "responses.jsonl")),
        )
        reads = (*_read(policy), *named_paths(self.given.sample))
        return Stage(name, "sample", overrides, reads, ("responses.jsonl",))

    def _answers(self, name: str, policy: Path | str) -> Stage:
        """What a policy says to the prompts that are judged; the seed is the same in all rounds."""
        return self._sample(name, policy, self.cfg.judged, self.cfg.judged.k, self.cfg.seed)

    def _reward(self, number: int, before: Stage | None, responses: Stage | None) -> Stage:
        overrides = [*self._data_and(self.given.reward), f"method={self.method}", "resume=auto"]
        reads = named_paths(self.given.reward)
        if responses is not None:
            file = responses.output(self.root)
            overrides.append(override_of("meta.responses", str(file)))
            reads.append(file)
        if self.cfg.reward_init == "anew":
            overrides.append(f"seed={self.seeds['reward'] + number - 1}")
        if before is not None and self.cfg.reward_init == "previous":
            overrides += self._from(before)
            reads.append(before.output(self.root))
        return Stage(f"{round_name(number)}/reward", "train", tuple(overrides), tuple(reads), TRAINED)

    def _policy(self, number: int, reward: Stage, before: Stage | None) -> Stage:
        """With another seed in each round, so that a short one does not see the prompts of the last again."""
        judge = reward.output(self.root)
        overrides = [*self._data_and(self.given.policy), "method=ppo", "resume=auto"]
        overrides += [f"seed={self.seeds['policy'] + number - 1}", override_of("ppo.reward", str(judge))]
        reads = [judge, *named_paths(self.given.policy)]
        if before is not None and self.cfg.policy_init == "previous":
            overrides += self._from(before)
            reads.append(before.output(self.root))
        else:
            reads += _read(self.start)
        return Stage(f"{round_name(number)}/policy", "train", tuple(overrides), tuple(reads), TRAINED)

    def _accuracy(self, name: str, reward: Stage, answers: Stage) -> Stage:
        """Of the reward model, by gold, on what the policy said to other prompts before this round."""
        run, file = reward.output(self.root), answers.output(self.root)
        overrides = (
            *self.given.evaluate,
            override_of("run", str(run)),
            "data=jsonl",
            override_of("data.path", str(file)),
        )
        return Stage(f"{name}/accuracy", "evaluate", overrides, (run, file), ("evaluation.json",))

    def _judgement(self, name: str, answers: Stage, begin: Stage) -> Stage:
        a, b = answers.output(self.root), begin.output(self.root)
        overrides = (
            f"judge={self.judge}",
            *self._data_and(self.given.judge),
            override_of("a", str(a)),
            override_of("b", str(b)),
        )
        reads = (a, b, *named_paths(self.given.judge))
        return Stage(f"{name}/judgement", "judge", overrides, reads, ("judgement.json", "verdicts.jsonl"))

    def _data_and(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """With the choice of the data, where it was not made by name."""
        named = any(one.startswith("data=") for one in overrides)
        return tuple(overrides) if named else (self.data, *overrides)

    def _from(self, stage: Stage) -> list[str]:
        return [override_of("model.path", str(stage.output(self.root))), *MODEL_OF]


def _read(model: Path | str) -> tuple[Path, ...]:
    """The directory of a model; of the hub's, where its copy lies."""
    return (model if isinstance(model, Path) else Path(local_copy(model)),)
