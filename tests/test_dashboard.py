"""The W&B workspace as code: what it shows, and what bad words get."""

from types import SimpleNamespace

import pytest
from wandb.errors import UsageError

from ssl_lab import dashboard
from ssl_lab.config import ConfigError


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the package's own making
def test_methods_cost_and_health_have_panels() -> None:
    pytest.importorskip("wandb_workspaces")
    made = dashboard.workspace("someone", "ssl_lab")
    assert [section.name for section in made.sections] == ["Methods", "Accuracy against cost", "Health, without labels"]
    model = made._to_model().model_dump_json()
    for metric in ("val/knn_top1", "final/flops", "final/seconds", "health/rankme", "method.value._target_"):
        assert metric in model
    assert len(made.sections[2].panels) == len(dashboard.HEALTH)


def test_without_an_account_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise UsageError("No API key configured")

    monkeypatch.setattr(dashboard, "workspace", lambda *_: SimpleNamespace(save=refused))
    with pytest.raises(ConfigError, match=r"(?s)No API key configured.*wandb login.*ssl_lab\.report"):
        dashboard.main(["someone"])


def test_words_that_name_no_project_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="ENTITY/PROJECT"):
        dashboard.main(["a/b/c"])
    for words, code in (([], 2), (["--help"], 0)):
        with pytest.raises(SystemExit) as left:
            dashboard.main(words)
        assert left.value.code == code
    assert "usage: ssl-lab dashboard" in capsys.readouterr().out
