"""The steps of `paper`: which command does what, in which world."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_rm.overrides import more, override_of
from rlhf_rm.rounds.stage import Stage

# The curves too, for what was lost since the best validation.
TRAINED = ("export", "metrics.json", "metrics.csv")
Settings = Mapping[str, Any]


def paper_stages(settings: Settings, root: Path) -> list[Stage]:
    """All steps in an order in which each comes after those that it reads.

    Worlds take turns, so that two steps that run side by side do not wait for the same base model; in each
    the longest come first, so that at the end no core waits for the other.
    """
    worlds = [World(settings, root, seed).stages() for seed in settings["sized"]["worlds"]]
    return [stage for stages in zip(*worlds, strict=True) for stage in stages]


@dataclass(frozen=True)
class World:
    """One world.

    Args:
        settings: see `conf/experiment/paper_synthetic.yaml`.
        root: where everything lies.
        seed: of the world, and of what is trained in it.
    """

    settings: Settings
    root: Path
    seed: int

    def stages(self) -> list[Stage]:
        """Its steps."""
        sized = self.settings["sized"]
        rounds = [self._rounds("meta", "meta", "meta"), self._rounds("vanilla", "reward")]
        members = self._train("members", ["method=ensemble"], "noisy", "members", seed=self._voters())
        vote = self._vote(members)
        noisy = [
            self._denoised("plain", vote, "none"),
            self._denoised("denoised", vote, self.settings["denoised"]),
        ]
        apart = [self._train("reward", ["method=reward"], "contrastive")]
        apart += [
            self._train(name, ["method=contrastive", f"contrastive={name}"], "contrastive")
            for name in sized["contrastive"]
        ]
        slices = [self._slice(vote, number, flip=False) for number in sized["slices"]]
        slices += [self._slice(vote, number, flip=True) for number in sized["flipped"]]
        shifted = [self._shifted(stage) for stage in apart]
        return [*rounds, members, vote, *noisy, self._over_optimised(noisy[0]), *apart, *slices, *shifted]

    def _stage(
        self,
        name: str,
        command: str,
        overrides: list[str],
        reads: tuple[Path, ...],
        leaves: tuple[str, ...],
        within: str = "",
    ) -> Stage:
        return Stage(f"world_{self.seed}/{name}", command, tuple(overrides), reads, leaves, within)

    def _of(self, *kinds: str) -> list[str]:
        """The overrides of these kinds together; of two for one key the later stays."""
        together: dict[str, Any] = {}
        for kind in kinds:
            together |= self.settings[kind]
        return more(together)

    def _seeds(self, seed: int | None = None) -> list[str]:
        return [f"data.seed={self.seed}", f"seed={self.seed if seed is None else seed}"]

    def _voters(self) -> int:
        return int(self.seed + self.settings["members_seed"])

    def _train(
        self, name: str, chosen: list[str], *kinds: str, reads: tuple[Path, ...] = (), seed: int | None = None
    ) -> Stage:
        """A reward model: the groups that it chooses, and the kinds of settings beside those of all."""
        overrides = [*chosen, *self._seeds(seed), *self._of("all", "reward", *kinds), "resume=auto"]
        return self._stage(name, "train", overrides, reads, TRAINED)

    def _vote(self, members: Stage) -> Stage:
        run = override_of("members", str(members.directory(self.root)))
        leaves = ("vote/strengths.parquet", "vote/manifest.json")
        reads = (members.output(self.root),)
        return self._stage("vote", "vote", [run, *self._of("scoring")], reads, leaves, within="vote")

    def _denoised(self, name: str, vote: Stage, recipe: str) -> Stage:
        return self._train(name, self._by(vote, recipe), "noisy", "long", reads=(vote.output(self.root),))

    def _slice(self, vote: Stage, number: int, *, flip: bool) -> Stage:
        where = "denoise.recipe.steps.slice"
        chosen = [
            *self._by(vote, "slice"),
            f"{where}.number={number - 1}",
            f"{where}.flip={str(flip).lower()}",
        ]
        name = f"slice_{number:02d}{'_flipped' if flip else ''}"
        return self._train(name, chosen, "noisy", "slice", reads=(vote.output(self.root),))

    def _by(self, vote: Stage, recipe: str) -> list[str]:
        strengths = override_of("denoise.strengths", str(vote.place(self.root)))
        return ["method=denoised", f"denoise={recipe}", strengths]

    def _shifted(self, trained: Stage) -> Stage:
        """The accuracies of a model in and out of distribution."""
        run = override_of("run", str(trained.directory(self.root)))
        sets = override_of("evaluate.sets", list(self.settings["evaluated"]))
        name, reads = f"{Path(trained.name).name}_shifted", (trained.output(self.root),)
        return self._stage(name, "evaluate", [run, sets, *self._of("scoring")], reads, ("evaluation.json",))

    def _over_optimised(self, plain: Stage) -> Stage:
        reward = plain.output(self.root)
        overrides = ["method=ppo", *self._seeds(), *self._of("all", "policy", "over_optimised")]
        overrides += [override_of("ppo.reward", str(reward)), "resume=auto"]
        return self._stage("over_optimised", "train", overrides, (reward,), TRAINED)

    def _rounds(self, name: str, method: str, *kinds: str) -> Stage:
        overrides = [f"method={method}", *self._seeds(), *self._of("all", "rounds", *kinds)]
        overrides += [override_of(part, self.settings[part]) for part in ("reward", "policy")]
        return self._stage(name, "iterate", overrides, (), ("rounds.json",))
