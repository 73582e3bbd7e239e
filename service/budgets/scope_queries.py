"""Which counters of a budget a token may see, as a condition in SQL; `subject_reading.is_visible` says the same."""

from typing import Any

from psycopg import sql

from service.budgets.budget import Budget
from service.budgets.repository import Scope
from service.budgets.subject import forms_in_subjects
from service.identity.conditions import comparable_value


def subject_in_scope(
    budget: Budget, scope: Scope, parameters: dict[str, Any], column: sql.Composable
) -> sql.Composable:
    """Return the condition on the column of subjects; its values are put into the parameters."""
    each = {condition.dimension for condition in budget.match if condition.kind == "each"}
    clauses: list[sql.Composable] = [sql.SQL("true")]
    for number, (dimension, allowed) in enumerate((d, a) for d, a in scope.items() if d in each):
        name = f"scope_{number}"
        parameters[name] = [form for value in allowed for form in forms_in_subjects(comparable_value(dimension, value))]
        clauses.append(
            sql.SQL("{column}::jsonb ->> {dimension} = ANY ({allowed})").format(
                column=column, allowed=sql.Placeholder(name), dimension=sql.Literal(dimension)
            )
        )
    return sql.SQL(" AND ").join(clauses)
