import pytest
from pydantic import ValidationError

from service.settings import Settings, describe_settings, unknown_variables


def test_every_setting_is_described_and_every_number_bounded():
    for row in describe_settings():
        assert row.variable.startswith("TALLYGATE_")
        assert row.meaning, row.variable
        if row.default.isdecimal():
            assert " to " in row.meaning, f"{row.variable} has no bounds"


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TALLYGATE_PORT", "5000")
    monkeypatch.setenv("TALLYGATE_CHECK_DEADLINE_MS", "80")
    monkeypatch.setenv("TALLYGATE_DATABASE_URL", "postgresql://somewhere/db")
    settings = Settings()
    assert settings.http.port == 5000
    assert settings.checks.deadline_ms == 80
    assert settings.database_url == "postgresql://somewhere/db"


def test_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TALLYGATE_DATABASE_URL", "")
    monkeypatch.setenv("TALLYGATE_PORT", "")
    settings = Settings()
    assert settings.postgres.url is None
    assert settings.http.port == 4100


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TALLYGATE_PORT", "0"),
        ("TALLYGATE_CHECK_DEADLINE_MS", "1"),
        ("TALLYGATE_ROLE", "both"),
        ("TALLYGATE_DATABASE_POOL_MAX_CONNECTIONS", "2"),
        ("TALLYGATE_PORT", "x"),
    ],
)
def test_value_out_of_bounds_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValidationError):
        Settings()


def test_settings_cannot_be_changed_and_do_not_show_secrets(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TALLYGATE_ADMIN_TOKEN", "hunter2-hunter2-hunter2")
    monkeypatch.setenv("TALLYGATE_REDIS_URL", "redis://:hunter2@cache")
    settings = Settings()
    assert "hunter2" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.http.port = 1  # type: ignore[misc]


def test_misspelt_variable_is_noticed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TALLYGATE_CHECK_DEADLIN_MS", "80")
    assert unknown_variables() == ["TALLYGATE_CHECK_DEADLIN_MS"]
